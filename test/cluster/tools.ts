// SPDX-License-Identifier: Apache-2.0
// Builds the programs of a real cluster from the Go modules that go.mod pins. They are cached outside the checkout under a hash
// of their sources, so that a fresh clone finds them. It must not run the programs; control-plane.ts and kube-cluster.ts run
// them.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';

const here = import.meta.dirname;
const modules = ['go.mod', 'go.sum'].map((file) => readFileSync(join(here, file), 'utf8'));

/** Packages of the pinned modules. The name of a program is the last element of its path that is not a version. */
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

/** The paths of the programs. buildTools() builds the programs if they do not exist yet. */
export const tools = {
  etcd: join(folder, 'server'),
  apiserver: join(folder, 'kube-apiserver'),
  controllerManager: join(folder, 'kube-controller-manager'),
  kubeProxy: join(folder, 'kube-proxy'),
  kubectl: join(folder, 'kubectl'),
};

// The programs compare their versions with each other, so each program must have a version.
function versionFlags(): string {
  const version = /^\s*k8s\.io\/kubernetes v((\d+)\.(\d+)\.\S+)/m.exec(modules[0] ?? '');
  if (version === null) throw new Error('test/cluster/go.mod contains no version of k8s.io/kubernetes.');
  const [, full, major, minor] = version;
  const values = { gitVersion: `v${full}`, gitMajor: major, gitMinor: minor, gitTreeState: 'clean' };
  const base = 'k8s.io/component-base/version';
  return ['-s -w', ...Object.entries(values).map(([name, value]) => `-X ${base}.${name}=${value}`)].join(' ');
}

const isBuilt = (): boolean => existsSync(folder);

/** Whether the programs exist or can be built. */
export function canHaveTools(): boolean {
  return isBuilt() || spawnSync('go', ['version']).status === 0;
}

// A process that had to wait for the lock finds the complete folder of the other process. Until a build is complete, its folder has a
// temporary name.
const script = `
folder=$1
shift
[ ! -d "$folder" ] || exit 0
rm -rf "$folder".partial-*
partial=$folder.partial-$$
go build -o "$partial/" "$@" && mv "$partial" "$folder"
`;

/** Builds the programs if they do not exist. If two processes call it at the same time, only one of them builds. */
export function buildTools(): void {
  if (isBuilt()) return;
  mkdirSync(cache, { recursive: true });
  console.error(`cluster: Building etcd, kube-apiserver, kube-controller-manager, kube-proxy and kubectl in ${folder}.`);
  console.error('cluster: The first build takes minutes if the Go caches are empty.');
  const began = performance.now();
  const command = ['sh', '-c', script, 'sh', folder, '-trimpath', '-ldflags', versionFlags(), ...packages];
  const { status, error } = spawnSync('flock', [join(cache, 'lock'), ...command], { cwd: here, stdio: ['ignore', 2, 2] });
  if (status !== 0) throw new Error(`The programs of the cluster tests could not be built: exit code ${status}.`, { cause: error });
  console.error(`cluster: The build took ${Math.round((performance.now() - began) / 1000)} s.`);
}
