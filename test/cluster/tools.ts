// SPDX-License-Identifier: Apache-2.0
// The programs of a real cluster, built from the Go modules that go.mod pins. They are kept outside the checkout, by the
// hash of what they are made of: a fresh clone finds them. Builds only; control-plane.ts runs them.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
const modules = ['go.mod', 'go.sum'].map((file) => readFileSync(join(here, file), 'utf8'));

/** Packages of the pinned modules; a program is called as the last element of its path that is not a version. */
const packages = [
  'go.etcd.io/etcd/server/v3',
  ...['kube-apiserver', 'kube-controller-manager', 'kube-proxy', 'kubectl'].map((name) => `k8s.io/kubernetes/cmd/${name}`),
];

const hash = createHash('sha256')
  .update([...modules, ...packages].join('\n'))
  .digest('hex')
  .slice(0, 16);
const cache = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'sluice/cluster-tools');
const folder = join(cache, hash);

/** Where each of them is, or will be. */
export const tools = {
  etcd: join(folder, 'server'),
  apiserver: join(folder, 'kube-apiserver'),
  controllerManager: join(folder, 'kube-controller-manager'),
  kubeProxy: join(folder, 'kube-proxy'),
  kubectl: join(folder, 'kubectl'),
};

// Unversioned, they would refuse to say how they compare with each other.
function versionFlags(): string {
  const version = /^\s*k8s\.io\/kubernetes v((\d+)\.(\d+)\.\S+)/m.exec(modules[0] ?? '');
  if (version === null) throw new Error('test/cluster/go.mod names no version of k8s.io/kubernetes');
  const [, full, major, minor] = version;
  const values = { gitVersion: `v${full}`, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' };
  const base = 'k8s.io/component-base/version';
  return ['-s -w', ...Object.entries(values).map(([name, value]) => `-X ${base}.${name}=${value}`)].join(' ');
}

const isBuilt = (): boolean => existsSync(folder);

/** They are there, or can be built. */
export function canHaveTools(): boolean {
  return isBuilt() || spawnSync('go', ['version']).status === 0;
}

// Whoever waited for the lock finds the work done. What was built in part is never taken for the whole.
const script = `
folder=$1
shift
[ ! -d "$folder" ] || exit 0
rm -rf "$folder".partial-*
partial=$folder.partial-$$
go build -o "$partial/" "$@" && mv "$partial" "$folder"
`;

/** Builds them if they are not there. Two at once build one time. */
export function buildTools(): void {
  if (isBuilt()) return;
  mkdirSync(cache, { recursive: true });
  console.error(`cluster: building etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubectl into ${folder};`);
  console.error('cluster: with nothing in the caches of Go this takes minutes, once');
  const began = performance.now();
  const command = ['sh', '-c', script, 'sh', folder, '-trimpath', '-ldflags', versionFlags(), ...packages];
  const { status, error } = spawnSync('flock', [join(cache, 'lock'), ...command], { cwd: here, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`the programs of the cluster tests were not built (exit code ${status})`, { cause: error });
  console.error(`cluster: built after ${Math.round((performance.now() - began) / 1000)} s`);
}
