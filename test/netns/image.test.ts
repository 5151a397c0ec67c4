// SPDX-License-Identifier: Apache-2.0
// Runs the content of the image as the DaemonSet does: with the command, settings, mounts and capabilities of the DaemonSet, and a
// read-only root file system. The test uses a chroot, because no container runtime is available. The chroot contains the needed
// files of Debian instead of the Debian base image.
import { copyFileSync, globSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab } from '../support/lab/lab.ts';
import { type ConfigMap, daemonPod, deploy, manifest } from '../support/lab/manifest.ts';
import { Client, Server } from '../support/lab/peers.ts';
import { sh } from '../support/lab/shell.ts';

const { pod, container } = daemonPod();

interface Status {
  readonly attachments: readonly { readonly target: string }[];
}

let lab: Lab;
let image: string;

beforeAll(() => {
  lab = new Lab();
  lab.addPod(1);
  lab.addPod(9);
  image = join(lab.directory, 'image');
  sh(process.execPath, join(deploy, 'assemble.ts'), image);
});

afterAll(() => lab.close());

/** Paths of the shared libraries that a program or library loads, including the loader. */
const librariesOf = (path: string): string[] => [...sh('ldd', path).matchAll(/(\/\S+) \(0x/g)].map(([, library = '']) => library);

const libbpf = (): string => /=> (\S*libbpf\.so\.1)$/m.exec(sh('ldconfig', '-p'))?.[1] ?? expect.fail('libbpf1 is not installed');
const ownLibraries = (): string[] => {
  // The image contains the addon of koffi for glibc, and not the one for musl.
  const addons = globSync('opt/sluice/node_modules/**/linux_*/*.node', { cwd: image });
  expect(addons).toHaveLength(1);
  return [libbpf(), ...[libbpf(), ...['usr/local/bin/node', ...addons].map((path) => join(image, path))].flatMap(librariesOf)];
};

/** Adds the files of Debian that the daemon or this test needs. */
function addDebian(): void {
  const programs = ['/bin/sh', '/usr/bin/setpriv'];
  for (const path of new Set([...programs, ...programs.flatMap(librariesOf), ...ownLibraries()])) {
    mkdirSync(dirname(join(image, path)), { recursive: true });
    copyFileSync(path, join(image, path));
  }
}

test('the Dockerfile installs the package of every library', () => {
  const [, names = ''] = /^RUN .*--no-install-recommends (.*) && rm/m.exec(readFileSync(join(deploy, 'Dockerfile'), 'utf8')) ?? [];
  const installed = names.split(' ');
  const brought = sh('dpkg-query', '--show', '--showformat=${Depends}, ', ...installed).match(/[a-z0-9.+-]+(?= |,)/g) ?? [];
  // The smallest Debian image contains the first four, because dpkg and apt are linked with them.
  const there = ['libc6', 'libgcc-s1', 'libstdc++6', 'zlib1g', ...installed, ...brought];
  const libraries = ownLibraries().map((path) => path.split('/').at(-1) ?? '');
  const owned = sh('dpkg-query', '--search', ...libraries.map((library) => `*/${library}`)).split('\n');
  const isThere = (library: string): boolean =>
    owned.some((line) => line.endsWith(`/${library}`) && there.includes(line.split(':')[0] ?? ''));
  expect(libraries.filter((library) => !isThere(library))).toEqual([]);
});

test('mount-host mounts a bpffs if there is none, and does not mount a second one', () => {
  const [mountHost] = pod.initContainers;
  const script = mountHost?.args[0] ?? '';
  const told = sh(
    ...(['unshare', '-m', 'sh', '-ec'] as const),
    'umount -l /sys/fs/bpf 2>/dev/null || true; sh -ec "$1"; sh -ec "$1"; stat -f -c %T /sys/fs/bpf; grep -c " /sys/fs/bpf bpf " /proc/self/mounts',
    ...['sh', script],
  );
  expect([mountHost?.command, told]).toEqual([['sh', '-ec'], 'bpf_fs\n1\n']);
});

/** A shell command that mounts the volumes of the pod into the image and makes the rest read-only. */
function mounts(): string {
  const config = join(lab.directory, 'config');
  mkdirSync(config);
  for (const [name, text] of Object.entries(manifest<ConfigMap>('ConfigMap').data)) writeFileSync(join(config, name), text);
  mkdirSync(join(lab.directory, 'run'));
  const volumes: Readonly<Record<string, string>> = { config, bpffs: lab.bpffs, cgroup: lab.cgroup, run: join(lab.directory, 'run') };
  const lines = container.volumeMounts.flatMap(({ name, mountPath, readOnly }) => {
    const at = join(image, mountPath);
    if (!mountPath.startsWith('/sys/')) mkdirSync(at, { recursive: true });
    return [`mount --bind ${volumes[name]} ${at}`, ...(readOnly === true ? [`mount -o remount,ro,bind ${at}`] : [])];
  });
  for (const name of ['proc', 'sys', 'yaml']) mkdirSync(join(image, name));
  return [
    `mount --bind ${image} ${image}`,
    `mount -t proc proc ${image}/proc`,
    `mount -t sysfs -o ro sysfs ${image}/sys`,
    `mount --bind ${join(lab.directory, 'yaml')} ${image}/yaml`,
    ...lines,
    `mount -o remount,ro,bind ${image}`,
  ].join(' && ');
}

test('the daemon serves with the capabilities, mounts and settings of the DaemonSet', async () => {
  addDebian();
  const daemon = new Daemon(lab);
  daemon.write('web.yaml', service('web'), ...slices('web', [1]));
  const given = container.env.filter(({ name, value }) => value !== undefined && name !== 'SLUICE_API_SERVER');
  const env = [
    ...given.map(({ name, value }) => `${name}=${value}`),
    'SLUICE_NODE=node-a',
    'SLUICE_SOURCE=/yaml',
    'SLUICE_POD_INTERFACES=lxc',
  ];
  const capabilities = container.securityContext.capabilities.add.map((name) => `+${name.toLowerCase()}`);
  const running = lab.start('node', [
    ...['unshare', '-m', 'sh', '-ec', `${mounts()} && exec "$@"`, 'sh'],
    ...['env', '-i', 'PATH=/usr/local/bin:/usr/bin:/bin', ...env, '/usr/sbin/chroot', image],
    ...['setpriv', '--bounding-set', ['-all', ...capabilities].join(), '--inh-caps', '-all', '--no-new-privs'],
    ...[...container.command, ...container.args],
  ]);
  await running.line((line) => line.includes('"msg":"ready"'));

  await Server.start(lab, { netns: 'pod1', name: 'pod1' });
  const client = await Client.start(lab, 'pod9');
  expect((await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 20 })).failures).toEqual({});

  const probes = [container.startupProbe, container.livenessProbe, container.readinessProbe].map(
    ({ httpGet: { host, port, path } }) => `http://${host}:${port}${path}`,
  );
  const fetchAll = `Promise.all(${JSON.stringify(probes)}.map((url) => fetch(url).then(({ status }) => status))).then((all) => console.log(...all))`;
  expect(lab.run('node', process.execPath, '-e', fetchAll)).toBe('200 200 200\n');

  // Enters the container as `kubectl exec` does.
  const inside = ['nsenter', '--target', String(running.pid), '--mount', '--root', '--wd', '/usr/local/bin/sluice'] as const;
  const status = JSON.parse(sh(...inside, 'status', '-o', 'json')) as Status;
  expect(status).toMatchObject({ ready: true, agent: { node: 'node-a' } });
  expect(new Set(status.attachments.map(({ target }) => target))).toEqual(new Set(['/host/cgroup', 'lxc1', 'lxc9', 'eth0']));

  expect(await running.kill('SIGTERM')).toBe(0);
  expect((await client.ask({ protocol: 'tcp', address: vips.IPv4, port: 80, count: 20 })).failures).toEqual({});
});
