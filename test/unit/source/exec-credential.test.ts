// SPDX-License-Identifier: Apache-2.0
// The exec plugin of a kubeconfig, with real processes: environment of the plugin, caching of its output, and failures.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { ClusterAccess } from '../../../daemon/source/kubernetes/access.ts';
import { AccessWorld, base64, certificate, failureOf, key, otherKey, type Parts } from './access-fixture.ts';

const v1 = 'client.authentication.k8s.io/v1';

const credential = (status: object, apiVersion = v1): string => JSON.stringify({ apiVersion, kind: 'ExecCredential', status });

/** Writes a plugin that prints a text and records each run in the file "runs". */
function writePlugin(world: AccessWorld, printed: string): void {
  world.write('printed', printed);
  world.writeScript('plugin', `echo run >> ${world.path('runs')}`, `cat ${world.path('printed')}`);
}

const runs = (world: AccessWorld): number =>
  existsSync(world.path('runs')) ? readFileSync(world.path('runs'), 'utf8').trim().split('\n').length : 0;

const accessBy = (world: AccessWorld, exec: object = {}, parts: Parts = {}): ClusterAccess =>
  world.access({ ...parts, user: { exec: { apiVersion: v1, command: './plugin', ...exec } } });

/** Writes a plugin that prints this text. Returns the folder of the plugin and a ClusterAccess that uses the plugin. */
function withPlugin(printed: string, exec: object = {}): { world: AccessWorld; access: ClusterAccess } {
  const world = new AccessWorld();
  writePlugin(world, printed);
  return { world, access: accessBy(world, exec) };
}

/** Polls, because the condition depends on another process. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}

describe('a plugin', () => {
  test('a plugin can print a token', async () => {
    const { access } = withPlugin(credential({ token: 'abc' }));
    expect([await access.tls(), await access.authorization()]).toEqual([{}, 'Bearer abc']);
  });

  test('a plugin can print a client certificate, also in v1beta1', async () => {
    const apiVersion = 'client.authentication.k8s.io/v1beta1';
    const printed = credential({ clientCertificateData: certificate, clientKeyData: key, token: '' }, apiVersion);
    const { access } = withPlugin(printed, { apiVersion, interactiveMode: 'IfAvailable' });
    expect([await access.tls(), await access.authorization()]).toEqual([{ cert: certificate, key }, undefined]);
  });

  test('a plugin must print a key that matches its certificate', async () => {
    const { world, access } = withPlugin(credential({ clientCertificateData: certificate, clientKeyData: otherKey() }));
    expect(await failureOf(world, () => access.tls())).toBe(
      'CredentialError: the client key of user admin of config does not match its certificate',
    );
  });

  test('a plugin is looked up in PATH, and gets the variables of the daemon and of the kubeconfig, its arguments, and no input', async () => {
    const world = new AccessWorld();
    world.writeScript('plug', `echo "$OURS|$ITS|$1|$2|$(cat)" > ${world.path('got')}`, `cat ${world.path('printed')}`);
    world.write('printed', credential({ token: 'abc' }));
    const env = { PATH: `${world.folder}:${process.env['PATH']}`, OURS: 'ours', ITS: 'overruled' };
    const access = accessBy(world, { command: 'plug', args: ['get token', '$x'], env: [{ name: 'ITS', value: 'its' }] }, { env });
    expect(await access.authorization()).toBe('Bearer abc');
    expect(readFileSync(world.path('got'), 'utf8')).toBe('ours|its|get token|$x|\n');
  });

  test('a plugin gets the cluster only if provideClusterInfo is set', async () => {
    const world = new AccessWorld();
    world.writeScript('plugin', `printf %s "$KUBERNETES_EXEC_INFO" > ${world.path('info')}`, `cat ${world.path('printed')}`);
    world.write('printed', credential({ token: 'abc' }));
    world.write('ca.crt', certificate);
    const cluster = {
      'certificate-authority': 'ca.crt',
      'tls-server-name': 'kubernetes',
      extensions: [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'x' } }],
    };
    const info = (): unknown => JSON.parse(readFileSync(world.path('info'), 'utf8'));
    await accessBy(world, { env: [{ name: 'KUBERNETES_EXEC_INFO', value: 'its own' }] }, { cluster }).authorization();
    expect(info()).toEqual({ apiVersion: v1, kind: 'ExecCredential', spec: { interactive: false } });
    await accessBy(world, { provideClusterInfo: true }, { cluster }).authorization();
    expect(info()).toEqual({
      apiVersion: v1,
      kind: 'ExecCredential',
      spec: {
        interactive: false,
        cluster: {
          server: 'https://10.0.0.1:6443',
          'tls-server-name': 'kubernetes',
          'certificate-authority-data': base64(certificate),
          config: { audience: 'x' },
        },
      },
    });
  });
});

describe('the output of a plugin is cached', () => {
  test('the output of a plugin is cached until it is about to expire', async () => {
    const { world, access } = withPlugin(credential({ token: 'a', expirationTimestamp: '2030-01-01T01:00:00+00:00' }));
    expect([await access.authorization(), await access.authorization(), runs(world)]).toEqual(['Bearer a', 'Bearer a', 1]);
    writePlugin(world, credential({ token: 'b', expirationTimestamp: '2030-01-01T02:00:00Z' }));
    world.clock.advance(3_589_000);
    expect(await access.authorization()).toBe('Bearer a');
    world.clock.advance(1000);
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer b', 2]);
  });

  test('output that has already expired by the local clock is used for one request only', async () => {
    const { world, access } = withPlugin(credential({ token: 'a', expirationTimestamp: '2029-12-31T00:00:00Z' }));
    expect([await access.authorization(), await access.authorization(), runs(world)]).toEqual(['Bearer a', 'Bearer a', 2]);
  });

  test('output without an expiry is cached until the server refuses the credential', async () => {
    const { world, access } = withPlugin(credential({ token: 'a', expirationTimestamp: null }));
    await access.authorization();
    world.clock.advance(365 * 86_400_000);
    writePlugin(world, credential({ token: 'b' }));
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer a', 1]);
    access.invalidate('Bearer a');
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer b', 2]);
    // An earlier request with token a is refused only now. This refusal must not invalidate token b.
    access.invalidate('Bearer a');
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer b', 2]);
  });

  test('a plugin that runs while the daemon stops is killed, and its output is not used', async () => {
    const world = new AccessWorld();
    world.writeScript('plugin', `echo run >> ${world.path('runs')}`, 'sleep 60');
    const access = accessBy(world);
    const failure = access.authorization().catch((error: unknown) => String(error));
    await until(() => runs(world) === 1);
    access.close();
    expect(await failure).toMatch(/exec plugin .* was stopped because the daemon stops/);
  });

  test('all requests that wait for a credential share one run of the plugin', async () => {
    const { world, access } = withPlugin(credential({ token: 'a' }));
    const results = await Promise.all([access.authorization(), access.tls(), access.authorization()]);
    expect([results, runs(world)]).toEqual([['Bearer a', {}, 'Bearer a'], 1]);
  });

  test('a failure is not cached: the next request runs the plugin again', async () => {
    const { world, access } = withPlugin('nonsense');
    expect(await failureOf(world, () => access.authorization())).toMatch(/^CredentialError/);
    writePlugin(world, credential({ token: 'a' }));
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer a', 2]);
  });
});

describe('a plugin that fails', () => {
  test.for([
    {
      name: 'is reported with the last line of its stderr',
      lines: ['echo first >&2', 'echo "  no session:  log in " >&2', 'exit 3'],
      want: 'exited with code 3: no session: log in',
    },
    { name: 'is reported without its stdout', lines: ['echo s3cret', 'exit 1'], want: 'exited with code 1' },
    { name: 'by a signal is reported with the signal', lines: ['kill -TERM $$'], want: 'was terminated by SIGTERM' },
    { name: 'by too much output is reported', lines: ['yes s3cret'], want: 'printed more than 1048576 characters' },
  ])('a plugin that fails $name', async ({ lines, want }) => {
    const world = new AccessWorld();
    world.writeScript('plugin', ...lines);
    expect(await failureOf(world, () => accessBy(world).authorization())).toBe(`CredentialError: the exec plugin plugin ${want}`);
  });

  test('a plugin that fails with a long line in stderr is reported with the beginning of the line', async () => {
    const world = new AccessWorld();
    world.writeScript('plugin', 'head -c 100000 /dev/zero | tr "\\0" x >&2', 'exit 1');
    const want = `CredentialError: the exec plugin plugin exited with code 1: ${'x'.repeat(300)}`;
    expect(await failureOf(world, () => accessBy(world).authorization())).toBe(want);
  });

  test('a plugin that is not installed is reported with the install hint', async () => {
    const world = new AccessWorld();
    const access = accessBy(world, { command: 'no-such-plugin', installHint: 'Get it:\n  apt-get install it\n' });
    expect(await failureOf(world, () => access.authorization())).toBe(
      'CredentialError: the exec plugin no-such-plugin was not found: Get it: apt-get install it',
    );
    expect(await failureOf(world, () => accessBy(world).tls())).toBe('CredentialError: the exec plugin plugin was not found');
  });

  test('a plugin that is not executable is reported', async () => {
    const world = new AccessWorld();
    world.write('plugin', 'no program');
    expect(await failureOf(world, () => accessBy(world).authorization())).toBe(
      'CredentialError: the exec plugin plugin cannot be started: permission denied',
    );
    expect(await failureOf(world, () => accessBy(world, { args: ['a\0b'] }).authorization())).toMatch(
      /^CredentialError: the exec plugin plugin cannot be started: /,
    );
  });

  test('a plugin that cannot start because too many files are open is reported, and the next request starts it', () => {
    const world = new AccessWorld();
    writePlugin(world, credential({ token: 't0ken' }));
    const source = join(import.meta.dirname, '../../../daemon/source/kubernetes/exec-credential.ts');
    const plugin = { apiVersion: v1, command: world.path('plugin') };
    const program = `
      import { closeSync, openSync } from 'node:fs';
      import { ExecCredential } from ${JSON.stringify(source)};
      const clock = { now: () => 0, setTimer: () => () => undefined };
      const credential = new ExecCredential({ plugin: ${JSON.stringify(plugin)}, env: process.env, clock, wallNow: Date.now, cluster: async () => ({}) });
      const opened = [];
      try {
        for (;;) opened.push(openSync('/dev/null'));
      } catch {
        const failed = await credential.get().catch((error) => error.name + ' ' + error.message);
        opened.forEach((fd) => closeSync(fd));
        const { authorization } = await credential.get();
        process.stdout.write(JSON.stringify([failed, authorization]));
      }`;
    const limited = `ulimit -n 128; exec "$0" --input-type=module -e "$1"`;
    const text = execFileSync('sh', ['-c', limited, process.execPath, program], { encoding: 'utf8' });
    const [failed, authorization] = JSON.parse(text) as string[];
    expect(failed).toMatch(/^CredentialError the exec plugin \S+ cannot be started: this process has too many open files$/);
    expect(authorization).toBe('Bearer t0ken');
  });

  test('a plugin that does not exit within 60 s is killed with its child processes', async () => {
    const world = new AccessWorld();
    // The plugin starts a child process that keeps stdout open.
    world.writeScript('plugin', 'tail -f /dev/null &', `echo $! > ${world.path('made')}`, `mv ${world.path('made')} ${world.path('pid')}`);
    const failed = failureOf(world, () => accessBy(world).authorization());
    await until(() => existsSync(world.path('pid')));
    world.clock.advance(59_999);
    expect(world.clock.nextTimer).toBe(60_000);
    world.clock.advance(1);
    expect(await failed).toBe('CredentialError: the exec plugin plugin did not exit within 60 s');
    const stat = `/proc/${readFileSync(world.path('pid'), 'utf8').trim()}/stat`;
    // The child process is gone, or is a zombie.
    await until(() => !existsSync(stat) || / Z /.test(readFileSync(stat, 'utf8')));
  });

  test('a plugin that has failed or succeeded leaves no timer', async () => {
    const { world, access } = withPlugin(credential({ token: 'a' }));
    await access.authorization();
    expect(world.clock.nextTimer).toBeUndefined();
  });
});

describe('invalid output is reported without its secrets', () => {
  const pair = { clientCertificateData: certificate, clientKeyData: key };
  const other = 'client.authentication.k8s.io/v1beta1';
  test.for([
    { name: 'no output', printed: '', want: 'must be a JSON object' },
    { name: 'a string', printed: '"s3cret"', want: 'must be a JSON object' },
    {
      name: 'another version',
      printed: credential({ token: 's3cret' }, other),
      want: `apiVersion must be ${v1} as in the kubeconfig, is "${other}"`,
    },
    { name: 'another kind', printed: JSON.stringify({ apiVersion: v1, kind: 'Pod' }), want: 'kind must be ExecCredential, is "Pod"' },
    { name: 'no status', printed: JSON.stringify({ apiVersion: v1, kind: 'ExecCredential' }), want: 'status must be an object' },
    { name: 'an empty status', printed: credential({}), want: 'status must contain token or clientCertificateData' },
    {
      name: 'a token with a line feed',
      printed: credential({ token: 's3cret\nX: 1' }),
      want: 'status.token must be one word of ASCII characters',
    },
    { name: 'a number', printed: credential({ token: 5 }), want: 'status.token must be one word of ASCII characters' },
    {
      name: 'a certificate without key',
      printed: credential({ clientCertificateData: certificate }),
      want: 'status must contain clientCertificateData and clientKeyData together',
    },
    {
      name: 'an invalid certificate',
      printed: credential({ ...pair, clientCertificateData: 's3cret' }),
      want: 'status.clientCertificateData must be a PEM certificate',
    },
    {
      name: 'an invalid key',
      printed: credential({ ...pair, clientKeyData: 's3cret' }),
      want: 'status.clientKeyData must be a PEM private key',
    },
    {
      name: 'an expiry that is not a time',
      printed: credential({ token: 'a', expirationTimestamp: 'soon' }),
      want: 'status.expirationTimestamp must be a time such as 2030-01-01T00:00:00Z',
    },
  ])('invalid output of a plugin is reported without its secrets: $name', async ({ printed, want }) => {
    const { world, access } = withPlugin(printed);
    expect(await failureOf(world, () => access.authorization())).toBe(
      `CredentialError: the exec plugin plugin printed an invalid ExecCredential: ${want}`,
    );
  });
});
