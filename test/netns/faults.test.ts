// SPDX-License-Identifier: Apache-2.0
// Failures of the host while the daemon runs and starts: system calls that fail (injected by strace), too few descriptors, a log that
// cannot be written, a bpffs that becomes read-only, a cgroup that is removed and created again. The daemon must continue, report what is
// wrong, and repair everything when the failure is over.
import { credentials } from '@grpc/grpc-js';
import { mkdirSync, readdirSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { tcxPrograms } from '../../daemon/kernel/link.ts';
import { loadSluice } from '../../proto/load.ts';
import { inNetns } from '../support/kernel.ts';
import { Daemon, service, slices } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { sh } from '../support/lab/shell.ts';

const root = join(import.meta.dirname, '../..');

let lab: Lab;
let daemon: Daemon;

beforeEach(() => {
  lab = new Lab();
  for (const number of [1, 9]) lab.addPod(number);
  daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
});

afterEach(() => lab.close());

const start = (...extra: string[]): Promise<void> => daemon.start({ hasSocketLb: true, extra: ['--sync-period', '300ms', ...extra] });
const pid = (): number => daemon.process?.pid ?? 0;

/** The text of `sluice status`, which exits with 1 when something is degraded. */
const status = (): string =>
  lab.run('node', 'sh', '-c', `"$0" daemon/cli/main.ts --socket '${daemon.socket}' status 2>&1 || true`, process.execPath);

/** Waits until the condition is met. The time limit only ends a test whose condition is never met. */
async function until(is: () => boolean, what: string): Promise<void> {
  for (const end = Date.now() + 60_000; !is();) {
    if (Date.now() > end)
      throw new Error(`${what}: not within 60 s; status:\n${status()}\nlog:\n${daemon.process?.lines.slice(-20).join('\n')}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

const ifindexOf = (device: string): number =>
  (JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', device)) as { ifindex: number }[])[0]?.ifindex ?? 0;
/** Number of TCX programs on a device, from the kernel. */
const programsOn = (device: string): number => {
  const ifindex = ifindexOf(device);
  return inNetns(`/run/netns/${lab.netns('node')}`, () => [...tcxPrograms(ifindex, true), ...tcxPrograms(ifindex, false)]).length;
};
const addDevice = (name: string): string => lab.ip('node', 'link', 'add', name, 'type', 'veth', 'peer', 'name', `p${name}`);
/** Number of our programs on the cgroup, from the kernel. */
const programsOnCgroup = (): number =>
  sh('bpftool', 'cgroup', 'show', lab.cgroup)
    .split('\n')
    .filter((line) => line.includes('sock_')).length;

/** Makes system calls of the daemon fail until the returned function is called. A fault is written as "socket:error=EMFILE". */
async function inject(...faults: string[]): Promise<() => Promise<void>> {
  const names = faults.map((fault) => fault.split(':')[0] ?? '').join(',');
  const strace = lab.start('node', [
    'strace',
    '-f',
    '-o',
    '/dev/null',
    '-e',
    `trace=${names}`,
    ...faults.flatMap((fault) => ['-e', `inject=${fault}`]),
    '-p',
    String(pid()),
  ]);
  await strace.line((line) => line.includes('attached'));
  return async () => {
    await strace.kill('SIGINT');
  };
}

/** Waits until the daemon runs and nothing is wrong any more. */
async function recovered(): Promise<void> {
  await until(() => !/Degraded|NotReady|sluice:/.test(status()), 'nothing is degraded');
}

describe('failures of netlink', () => {
  test.for([
    { name: 'no socket', faults: ['socket:error=EMFILE'] },
    { name: 'no memory for a request', faults: ['sendto:error=ENOBUFS'] },
    { name: 'an error of each answer', faults: ['recvfrom:error=EIO'] },
    { name: 'no memory for an answer', faults: ['recvfrom:error=ENOMEM'] },
    { name: 'constant interruptions', faults: ['recvfrom:error=EINTR'] },
  ])('with $name, the status reports the failure, and the daemon follows devices and addresses again afterwards', async ({ faults }) => {
    await start();
    const stop = await inject(...faults);
    addDevice('lxcnew');
    lab.ip('node', 'address', 'add', '10.0.0.77/32', 'dev', 'eth0');
    await until(
      () => daemon.process?.lines.some((line) => line.includes('network devices of this node cannot be read')) === true,
      'the failure is logged',
    );
    await until(
      () => status().includes('the network devices of this node cannot be read, will be retried'),
      'the failure is in the status',
    );
    await stop();
    await until(() => programsOn('lxcnew') === 2, 'the new device has programs');
    await recovered();
    addDevice('lxclater');
    await until(() => programsOn('lxclater') === 2, 'a later device has programs');
    expect(await daemon.process?.kill('SIGTERM')).toBe(0);
  });
});

describe('failures of bpf(2)', () => {
  test.for(['EMFILE', 'ENOMEM', 'ENOSPC', 'EIO', 'EINTR', 'EAGAIN'])(
    'with %s, the daemon continues and applies everything afterwards',
    async (code) => {
      await start();
      const from = daemon.process?.lines.length ?? 0;
      const stop = await inject(`bpf:error=${code}`);
      addDevice('lxcnew');
      daemon.write('more.yaml', service('more', { IPv4: '10.96.0.20', IPv6: 'fd00:96::20' }), ...slices('more', [1]));
      await daemon.process?.line((line) => line.includes('could not be repaired'), from);
      await daemon.process?.line((line) => line.includes('the programs of the device could not be attached or detached'), from);
      await stop();
      await until(() => programsOn('lxcnew') === 2, 'the new device has programs');
      await recovered();
      await daemon.settled((services) => services.some(({ key }) => key.startsWith('default/more')));
      expect(await daemon.process?.kill('SIGTERM')).toBe(0);
    },
  );
});

test('the daemon continues while it may open no more files, and applies everything afterwards', async () => {
  await start('--http', '127.0.0.1:9880');
  const limit = (count: number): string => sh('prlimit', '--pid', String(pid()), `--nofile=${count}:4096`);
  limit(readdirSync(`/proc/${pid()}/fd`).length);
  const from = daemon.process?.lines.length ?? 0;
  addDevice('lxcnew');
  daemon.write('more.yaml', service('more', { IPv4: '10.96.0.20', IPv6: 'fd00:96::20' }), ...slices('more', [1]));
  await daemon.process?.line((line) => line.includes('EMFILE'), from);
  // Connections to both servers cannot be accepted.
  for (let count = 0; count < 5; count += 1) status();
  lab.run(
    'node',
    'sh',
    '-c',
    'for n in 1 2 3 4 5; do "$0" -e "fetch(\'http://127.0.0.1:9880/healthz\').catch(() => 0)"; done',
    process.execPath,
  );
  limit(4096);
  await until(() => programsOn('lxcnew') === 2, 'the new device has programs');
  await recovered();
  await daemon.settled((services) => services.some(({ key }) => key.startsWith('default/more')));
  expect(await daemon.process?.kill('SIGTERM')).toBe(0);
});

/** Makes calls that the daemon rejects, with a log line for each at the level debug. */
async function rejectCalls(count: number): Promise<void> {
  const client = new (loadSluice().Sluice)(`unix:${daemon.socket}`, credentials.createInsecure());
  const call = (): Promise<void> => new Promise((resolve) => void client.listServices({ pageToken: 'none' }, () => resolve()));
  for (let made = 0; made < count; made += 100) await Promise.all(Array.from({ length: 100 }, call));
  client.close();
}

describe('when the log cannot be written, only log lines are lost, and SIGTERM stops the daemon within 5 s', () => {
  const fifo = (): string => join(lab.directory, 'log');
  test.for([
    { name: 'a full disk', stderr: () => '/dev/full' },
    { name: 'a pipe that is never read', stderr: () => fifo(), isReadWrite: true },
    { name: 'a pipe whose reader has gone', stderr: () => fifo(), reader: 'head -c 10' },
  ])('the daemon serves and stops in time while its log goes to $name', async ({ stderr, isReadWrite = false, reader }) => {
    sh('mkfifo', fifo());
    if (reader !== undefined) lab.start('node', ['sh', '-c', `${reader} '${fifo()}'`]);
    const command = `exec "$@" 2${isReadWrite ? '<>' : '>'}'${stderr()}'`;
    const flags = [...daemon.flags(true), '--http', '127.0.0.1:9880', '--sync-period', '300ms'];
    daemon.process = lab.start('node', ['sh', '-c', command, 'sh', process.execPath, 'daemon/main.ts', ...flags]);
    await until(() => /^Ready: +Ok/m.test(status()), 'the daemon is ready');
    // Rejected calls cause more log lines than fit into a pipe and the buffer of the daemon.
    const isCounted = (): boolean => /^Log: +Warning +\d+ lines? lost/m.test(status());
    for (let round = 0; round < 20 && !isCounted(); round += 1) await rejectCalls(2000);
    expect(status()).toMatch(/^Log: +Warning +\d+ lines? lost/m);
    const fetched = `fetch('http://127.0.0.1:9880/metrics').then(async (r) => console.log(await r.text()))`;
    expect(lab.run('node', process.execPath, '-e', fetched)).toMatch(/^sluice_log_lines_dropped_total [1-9]\d*$/m);
    // Services are still served as before.
    addDevice('lxcnew');
    await until(() => programsOn('lxcnew') === 2, 'the new device has programs');
    const began = performance.now();
    const code = await daemon.process.kill('SIGTERM');
    expect(code).toBe(0);
    expect(performance.now() - began).toBeLessThan(5000);
  });
});

describe('a start', () => {
  const run = async (...command: string[]): Promise<{ code: number; lines: string[] }> => {
    const started = lab.start('node', command);
    const code = await started.ended;
    return { code, lines: started.lines.filter((line) => !line.startsWith('{')) };
  };

  test.for([
    { limit: 12, main: ['sh', join(root, 'daemon/sluiced.sh')] },
    { limit: 23, main: ['sh', join(root, 'daemon/sluiced.sh')] },
    { limit: 24, main: ['sh', join(root, 'daemon/sluiced.sh')] },
    { limit: 30, main: [process.execPath, join(root, 'daemon/main.ts')] },
    { limit: 100, main: [process.execPath, join(root, 'daemon/main.ts')] },
    { limit: 255, main: [process.execPath, join(root, 'daemon/main.ts')] },
  ])('a start with a limit of $limit open files fails with one error message and an exit code', async ({ limit, main }) => {
    const { code, lines } = await run('sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh', ...main, ...daemon.flags(true));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(new RegExp(`^sluiced: this process may open ${limit} files, and sluiced needs at least 256`));
    expect(code).toBe(3);
  });

  test('a start with the lowest permitted limit of open files succeeds', async () => {
    const command = ['sh', '-c', 'ulimit -n 256; exec "$@"', 'sh', process.execPath, 'daemon/main.ts', ...daemon.flags(true)];
    daemon.process = lab.start('node', command);
    await daemon.process.line((line) => line.includes('"msg":"ready"'));
    expect(status()).not.toMatch(/Degraded|NotReady/);
  });

  test.for([
    { fault: 'bpf:error=EMFILE:when=1+', says: /EMFILE: raise the limit of open files/ },
    { fault: 'bpf:error=ENOMEM:when=30+', says: /ENOMEM/ },
    { fault: 'bpf:error=EPERM:when=100+', says: /EPERM|rejects our programs/ },
    { fault: 'socket:error=EMFILE', says: /EMFILE: raise the limit of open files/ },
    { fault: 'recvfrom:error=EIO', says: /EIO/ },
  ])('a start in which a system call fails ($fault) ends with one error message and an exit code', async ({ fault, says }) => {
    const traced = ['strace', '-f', '-o', '/dev/null', '-e', `trace=${fault.split(':')[0]}`, '-e', `inject=${fault}`];
    const { code, lines } = await run(...traced, process.execPath, 'daemon/main.ts', ...daemon.flags(true));
    expect(lines).toHaveLength(1);
    expect(lines[0]).toMatch(/^sluiced: /);
    expect(lines[0]).toMatch(says);
    expect([3, 5, 10]).toContain(code);
  });

  test('a start is not disturbed by signals while programs are loaded', async () => {
    const flags = [...daemon.flags(true)];
    // SIGHUP is sent about every millisecond from the first line of the log until the daemon is ready, so it arrives many times during the
    // load of one program. Without a pause the signals would leave the event loop no time, because libuv handles every signal that waits.
    daemon.process = lab.start('node', [process.execPath, 'daemon/main.ts', ...flags]);
    await daemon.process.line((line) => line.includes('"msg":"starting"'));
    const storm = lab.start('node', ['sh', '-c', `while kill -HUP ${pid()}; do sleep 0.001; done`]);
    await Promise.race([daemon.process.line((line) => line.includes('"msg":"ready"')), daemon.process.ended]);
    await storm.kill();
    expect(daemon.process.lines.filter((line) => !line.startsWith('{'))).toEqual([]);
    await until(() => /^Ready: +Ok/m.test(status()), 'the daemon is ready');
  });

  test.for(['EAGAIN', 'EINTR'])('the load of a program is repeated when a signal interrupts it with %s', async (code) => {
    const flags = [process.execPath, 'daemon/main.ts', ...daemon.flags(true)];
    const log = join(lab.directory, 'strace');
    const traced = (...options: string[]): string[] => ['strace', '-f', '-o', log, '-e', 'trace=bpf', ...options, ...flags];
    // The first start shows which call of bpf(2) loads the first program after the probes of libbpf.
    daemon.process = lab.start('node', traced());
    await daemon.process.line((line) => line.includes('"msg":"ready"'));
    // strace ends with the process that it started.
    process.kill(Number(sh('pgrep', '-P', String(pid()))), 'SIGTERM');
    await daemon.process.ended;
    // The second start makes the same calls, because it finds no pins either.
    rmSync(join(lab.bpffs, 'sluice'), { recursive: true });
    const calls = readFileSync(log, 'utf8').split('\n');
    const first = 1 + calls.findIndex((line) => line.includes('BPF_PROG_LOAD') && line.includes('prog_name="tc_'));
    expect(first).toBeGreaterThan(0);
    // After EAGAIN, libbpf itself tries the load up to five times in total. The daemon must repeat it when all five attempts fail.
    const when = code === 'EAGAIN' ? `${first}..${first + 4}` : String(first);
    daemon.process = lab.start('node', traced('-e', `inject=bpf:error=${code}:when=${when}`));
    await daemon.process.line((line) => line.includes('"msg":"ready"'));
    const injected = readFileSync(log, 'utf8')
      .split('\n')
      .filter((line) => line.includes('INJECTED'));
    expect(injected.filter((line) => line.includes('BPF_PROG_LOAD'))).toHaveLength(injected.length);
    expect(injected).toHaveLength(code === 'EAGAIN' ? 5 : 1);
    process.kill(Number(sh('pgrep', '-P', String(pid()))), 'SIGTERM');
    await daemon.process.ended;
  });
});

describe('a cgroup', () => {
  test('a cgroup that is created again gets its programs each time, and the status does not count programs that are not attached', async () => {
    await start();
    for (let round = 0; round < 2; round += 1) {
      expect(programsOnCgroup()).toBe(8);
      rmdirSync(lab.cgroup);
      await until(() => /^Programs: +Degraded +6 of 14 attached/m.test(status()), 'the status names the lost programs');
      expect(status()).toContain(`sock_connect4 on ${lab.cgroup} is not attached`);
      mkdirSync(lab.cgroup);
      await until(() => programsOnCgroup() === 8, 'the programs are attached again');
      await recovered();
      // The status inspects the hooks at most once a second.
      await until(() => /^Programs: +Ok +14 attached/m.test(status()), 'the status counts all programs');
    }
    // The pins must belong to the new links. The next daemon shows this, because it takes links over through their pins.
    await daemon.process?.kill('SIGTERM');
    await start();
    expect(programsOnCgroup()).toBe(8);
  });

  test('a missing cgroup does not prevent a reload of the other programs', async () => {
    await start();
    rmdirSync(lab.cgroup);
    await until(() => /6 of 14 attached/.test(status()), 'the status names the lost programs');
    expect(daemon.cli('reload')).toMatch(/replaced the programs/);
    mkdirSync(lab.cgroup);
    await until(() => programsOnCgroup() === 8, 'the programs are attached again');
    await recovered();
  });
});

describe('a read-only bpffs', () => {
  const remount = (mode: 'ro' | 'rw'): string => sh('mount', '-o', `remount,bind,${mode}`, lab.bpffs);

  test('links that are detached while the bpffs is read-only are attached again at once, and pinned afterwards', async () => {
    await start();
    const ifindex = ifindexOf('lxc9');
    const links = join(lab.bpffs, 'sluice/links');
    for (let round = 0; round < 2; round += 1) {
      remount('ro');
      for (const name of [`tc_pod_in-${ifindex}`, 'sock_connect4']) sh('bpftool', 'link', 'detach', 'pinned', join(links, name));
      await until(() => programsOn('lxc9') === 2 && programsOnCgroup() === 8, 'the programs are attached');
      await until(() => /^Repairs: +Degraded/m.test(status()), 'the status names the missing pins');
      remount('rw');
      await recovered();
      const pinned = JSON.parse(sh('bpftool', '-j', 'link', 'show', 'pinned', join(links, `tc_pod_in-${ifindex}`))) as { ifindex?: number };
      expect(pinned.ifindex ?? ifindex).toBe(ifindex);
      expect(readdirSync(links)).toHaveLength(14);
    }
    await daemon.process?.kill('SIGKILL');
    expect([programsOn('lxc9'), programsOnCgroup()]).toEqual([2, 8]);
  });

  test('a device whose programs cannot be attached is a problem until the device is deleted or the next sync period succeeds', async () => {
    await start();
    remount('ro');
    addDevice('lxcgone');
    addDevice('lxcstays');
    await until(() => status().includes('lxcgone: ') && status().includes('lxcstays: '), 'the status names the devices');
    lab.ip('node', 'link', 'delete', 'lxcgone');
    await until(() => !/lxcgone|ifindex/.test(status()), 'nothing about the vanished device remains');
    remount('rw');
    await until(() => programsOn('lxcstays') === 2, 'the device has programs');
    await recovered();
    expect(status()).not.toMatch(/lxcgone|ifindex/);
  });
});
