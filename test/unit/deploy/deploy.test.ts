// SPDX-License-Identifier: Apache-2.0
// deploy/ agrees with the daemon: settings, permissions, paths and ports. test/netns/image.test.ts runs the daemon with them.
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { buildHttp } from '../../../daemon/api/http.ts';
import { HttpServers } from '../../../daemon/base/http-servers.ts';
import { parseConfig } from '../../../daemon/config/resolve.ts';
import { allSettings, type Config } from '../../../daemon/config/schema.ts';
import { missingCapabilities } from '../../../daemon/kernel/host.ts';
import { apiGroupOf, kinds } from '../../../daemon/source/kinds.ts';
import { type ClusterRole, type ConfigMap, daemonPod, deploy, manifest, manifests } from '../../support/lab/manifest.ts';
import { FakeClock } from '../../support/fake-clock.ts';
import { FakeView, troubledStatus } from '../api/fixture.ts';

const { pod, container } = daemonPod();
const readText = (name: string): string => readFileSync(join(deploy, name), 'utf8');

/** Returns the text of a file in the container that comes from the ConfigMap. */
function fileAt(path: string): string {
  const { metadata, data } = manifest<ConfigMap>('ConfigMap');
  const volume = pod.volumes.find(({ configMap }) => configMap?.name === metadata.name);
  const mount = container.volumeMounts.find(({ name }) => name === volume?.name);
  const [, name = ''] = path.split(`${mount?.mountPath}/`);
  return data[name] ?? expect.fail(`${path} is not in the ConfigMap`);
}

/** The settings of the daemon in the pod, with this address of the API server. */
function configOf(apiServer: string): Config {
  const env = Object.fromEntries(container.env.map(({ name, value = 'node-a' }) => [name, value.replace('<API server URL>', apiServer)]));
  return parseConfig(container.args, env, fileAt);
}

test('all namespaced objects are in kube-system and refer to each other', () => {
  expect(manifests().map(({ kind, metadata }) => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`)).toEqual([
    'ServiceAccount kube-system/sluice',
    'ClusterRole /sluice',
    'ClusterRoleBinding /sluice',
    'ConfigMap kube-system/sluice',
    'DaemonSet kube-system/sluice',
  ]);
  expect(manifest('ClusterRoleBinding')).toMatchObject({
    roleRef: { kind: 'ClusterRole', name: 'sluice' },
    subjects: [{ kind: 'ServiceAccount', name: 'sluice', namespace: 'kube-system' }],
  });
  expect(pod).toMatchObject({ serviceAccountName: 'sluice', hostNetwork: true, dnsPolicy: 'Default' });
});

describe('settings', () => {
  test('the settings in the manifest are valid', () => {
    expect(configOf('https://10.0.0.1:6443')).toMatchObject({
      ...{ source: undefined, kubeconfig: undefined, apiServer: [new URL('https://10.0.0.1:6443')], node: 'node-a' },
      ...{ podInterfaces: 'auto', uplinks: 'auto', detectLocalMode: 'InterfaceNamePrefix', socketLb: true },
    });
  });

  test('the settings are invalid until the address of the API server is edited', () => {
    expect(() => configOf('<API server URL>')).toThrow(
      'SLUICE_API_SERVER=<API server URL> contains "<API server URL>", which is not an https URL such as https://10.0.0.1:6443',
    );
  });

  test('the settings in the environment are known to the daemon', () => {
    const known = allSettings().map(({ environment }) => environment);
    expect(container.env.map(({ name }) => name).filter((name) => !known.includes(name))).toEqual([]);
    expect(container.env.find(({ name }) => name === 'SLUICE_NODE')?.valueFrom).toEqual({ fieldRef: { fieldPath: 'spec.nodeName' } });
  });

  test('the settings contain only paths that are mounted from the host', () => {
    const { pinPath, socket, cgroup } = configOf('https://10.0.0.1:6443');
    const hostPathOf = (path: string | undefined): string | undefined => {
      const mount = container.volumeMounts.find(({ mountPath }) => `${path}/`.startsWith(`${mountPath}/`));
      return pod.volumes.find(({ name }) => name === mount?.name)?.hostPath?.path;
    };
    expect([pinPath, socket, cgroup].map(hostPathOf)).toEqual(['/sys/fs/bpf', '/run/sluice', '/sys/fs/cgroup']);
    expect(pinPath.startsWith('/sys/fs/bpf/') && socket.startsWith('/run/sluice/')).toBe(true);
  });
});

describe('permissions', () => {
  test('the ClusterRole grants list and watch on every kind in daemon/source/kinds.ts, list on networkpolicies, and nothing else', () => {
    const granted = manifest<ClusterRole>('ClusterRole').rules.flatMap(({ apiGroups, resources, verbs }) =>
      apiGroups.flatMap((group) => resources.flatMap((resource) => verbs.map((verb) => `${verb} ${resource} in "${group}"`))),
    );
    const needed = Object.values(kinds).flatMap(({ plural, apiVersion }) =>
      ['list', 'watch'].map((verb) => `${verb} ${plural} in "${apiGroupOf(apiVersion)}"`),
    );
    expect(granted.toSorted()).toEqual([...needed, 'list networkpolicies in "networking.k8s.io"'].toSorted());
  });

  test('the container has the capabilities that the daemon requires, and no others', () => {
    const { drop, add } = container.securityContext.capabilities;
    expect(drop).toEqual(['ALL']);
    expect(add.map((name) => `CAP_${name}`)).toEqual(missingCapabilities('CapEff:\t0000000000000000'));
    expect(container.securityContext).toMatchObject({ allowPrivilegeEscalation: false, readOnlyRootFilesystem: true });
  });
});

describe('probes', () => {
  const { startupProbe, livenessProbe, readinessProbe } = container;

  test('the probes use the address on which the daemon listens', () => {
    const { http } = configOf('https://10.0.0.1:6443');
    for (const { httpGet } of [startupProbe, livenessProbe, readinessProbe])
      expect({ address: httpGet.host, port: httpGet.port }).toEqual(http);
  });

  test('an agent that waits for its first list is alive and not ready', async () => {
    const view = new FakeView();
    const clock = new FakeClock();
    const page = (): Promise<never> => Promise.reject(new Error('not called'));
    const http = buildHttp({ view, page, servers: new HttpServers(), clock });
    const statuses = (): Promise<number[]> =>
      Promise.all([startupProbe, livenessProbe, readinessProbe].map(async ({ httpGet }) => (await http.inject(httpGet.path)).statusCode));
    expect(await statuses()).toEqual([200, 200, 200]);
    view.current = troubledStatus;
    clock.advance(1000);
    expect(await statuses()).toEqual([200, 200, 503]);
    await http.close();
  });
});

describe('the image', () => {
  const dockerfile = readText('Dockerfile');
  const ignored = readText('Dockerfile.dockerignore').split('\n');

  test('the image has the version of package.json in both containers', () => {
    const { version } = JSON.parse(readFileSync(join(deploy, '../package.json'), 'utf8')) as { version: string };
    expect([...pod.initContainers, ...pod.containers].map(({ image }) => image)).toEqual([`sluice:${version}`, `sluice:${version}`]);
  });

  test('the image is built from files that exist and are not ignored', () => {
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.*) \S+$/gm)].flatMap(([, names = '']) => names.split(' '));
    expect(copied).toContain('daemon');
    expect(copied.filter((name) => !existsSync(join(deploy, '..', name)))).toEqual([]);
    expect(copied.filter((name) => !ignored.includes(`!${name}`))).toEqual([]);
  });

  test('the image sets no environment variable that the daemon would read as a setting', () => {
    const variables = [...dockerfile.matchAll(/^ENV (\w+)=/gm)].map(([, name = '']): [string, string] => [name, 'abc1234']);
    expect(variables).toEqual([['SLUICE_COMMIT', 'abc1234']]);
    expect(parseConfig([], Object.fromEntries(variables), () => '').logLevel).toBe('info');
  });
});

test('the sed command in README.md replaces every value that must be edited', () => {
  const expressions = [...readText('README.md').matchAll(/-e '(s\|[^']+)'/g)].flatMap(([, expression = '']) => ['-e', expression]);
  const replaced = execFileSync('sed', [...expressions, join(deploy, 'sluice.yaml')], { encoding: 'utf8' });
  const before = readText('sluice.yaml').split('\n');
  const changed = replaced.split('\n').filter((line, index) => line !== before[index]);
  expect(changed.map((line) => line.trim())).toEqual([
    'image: REGISTRY/sluice:0.1.0 # EDIT',
    'image: REGISTRY/sluice:0.1.0 # EDIT',
    'value: https://10.0.0.1:6443',
  ]);
});
