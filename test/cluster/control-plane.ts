// SPDX-License-Identifier: Apache-2.0
// A real control plane in a network namespace of a lab: etcd, kube-apiserver, kube-controller-manager, and a `kubectl proxy` on a
// Unix socket, through which the tests reach the API from outside the namespace. RBAC authorises the clients. Clients authenticate
// with tokens; the server has a self-signed certificate. kube-cluster.ts and the benchmark at scale start it.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { apiAddresses, type Lab } from '../support/lab/lab.ts';
import type { LabProcess } from '../support/lab/process.ts';
import { Api, until } from './api.ts';
import { tools } from './tools.ts';

const PORT = 6443;
export const serviceCidrs = '10.96.0.0/16,fd00:96::/108';
const inside = `https://localhost:${PORT}`;
/** The URL of the API server for clients in other namespaces of the lab. */
export const apiUrl = `https://${apiAddresses.IPv4}:${PORT}`;

/** Users with a token. The controllers and kube-proxy have the permissions that Kubernetes gives them by default. */
const users = {
  admin: { name: 'admin', groups: 'system:masters' },
  controllers: { name: 'system:kube-controller-manager', groups: '' },
  proxy: { name: 'system:kube-proxy', groups: '' },
};

export type User = keyof typeof users;

/**
 * The controllers that Services, namespaces and service accounts need. The node lifecycle controller is left out. It would evict
 * the Pods, because no kubelet sends heartbeats.
 */
const controllers = [
  ...['endpoints-controller', 'endpointslice-controller', 'endpointslice-mirroring-controller', 'service-cidr-controller'],
  ...['namespace-controller', 'serviceaccount-controller', 'garbage-collector-controller', 'root-ca-certificate-publisher-controller'],
];

export class ControlPlane {
  readonly api: Api;
  /** The CA file that verifies the certificate of the API server. */
  readonly caFile: string;
  readonly #lab: Lab;
  readonly #directory: string;
  readonly #tokens = new Map<User, string>();
  readonly #processes = new Map<string, LabProcess>();
  readonly #ended = Promise.withResolvers<never>();

  private constructor(lab: Lab) {
    this.#lab = lab;
    this.#directory = join(lab.directory, 'control-plane');
    this.caFile = this.#file('certificates/apiserver.crt');
    mkdirSync(this.#file('etcd'), { recursive: true, mode: 0o700 });
    for (const user of Object.keys(users) as User[]) this.#tokens.set(user, randomUUID());
    const lines = Object.entries(users).map(
      ([user, { name, groups }]) => `${this.#tokens.get(user as User)},${name},${name},"${groups}"\n`,
    );
    writeFileSync(this.#file('tokens.csv'), lines.join(''), { mode: 0o600 });
    const { privateKey, publicKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(this.#file('accounts.key'), privateKey.export({ type: 'pkcs1', format: 'pem' }), { mode: 0o600 });
    writeFileSync(this.#file('accounts.pub'), publicKey.export({ type: 'spki', format: 'pem' }));
    this.api = new Api({ lab, socket: this.#file('api.sock'), kubeconfig: this.kubeconfig('admin', inside) });
    // The callers that wait for this promise handle its rejection. Without this handler, Node.js would report it as unhandled.
    this.#ended.promise.catch(() => undefined);
  }

  /** Resolves when the API answers and the controllers run. The control plane ends with the lab. */
  static async start(lab: Lab): Promise<ControlPlane> {
    lab.addApiServer();
    const made = new ControlPlane(lab);
    try {
      await Promise.race([made.#startAll(), made.#ended.promise]);
    } catch (error) {
      const printed = [...made.#processes].map(([name, { lines }]) => `${name}:\n${lines.slice(-10).join('\n')}`);
      throw new Error(`The control plane did not start.\n${printed.join('\n')}`, { cause: error });
    }
    return made;
  }

  /** Writes a kubeconfig for one of the users and returns its path. */
  kubeconfig(user: User, server = apiUrl): string {
    const token = this.#tokens.get(user) ?? '';
    return writeKubeconfig(this.#file(`${user}-${new URL(server).hostname}.kubeconfig`), { server, caFile: this.caFile, token });
  }

  /** Makes the API server reachable from another lab, at the same address. */
  async extendTo(lab: Lab): Promise<void> {
    lab.addApiServer();
    const path = join(lab.directory, 'api-server.sock');
    const script = join(import.meta.dirname, 'forward.ts');
    const carriers = [
      this.#lab.start('api', [process.execPath, script, path, String(PORT)]),
      lab.start('api', [process.execPath, script, String(PORT), path]),
    ];
    await Promise.all(carriers.map((carrier) => carrier.line((line) => line === 'ready')));
  }

  /** Kills the API server, as in a crash. */
  async killApiServer(): Promise<void> {
    await this.#processes.get('kube-apiserver')?.kill();
  }

  startApiServer(): void {
    this.#start('kube-apiserver', [
      ...[tools.apiserver, '--etcd-servers', 'http://127.0.0.1:2379'],
      ...['--secure-port', String(PORT), '--advertise-address', apiAddresses.IPv4, '--cert-dir', this.#file('certificates')],
      ...['--service-cluster-ip-range', serviceCidrs, '--authorization-mode', 'RBAC', '--token-auth-file', this.#file('tokens.csv')],
      ...['--service-account-issuer', 'https://kubernetes.default.svc', '--service-account-key-file', this.#file('accounts.pub')],
      ...['--service-account-signing-key-file', this.#file('accounts.key'), '--allow-privileged'],
      // Two admission plug-ins are off: the Pods of the tests need no service account, and a new node must not be tainted.
      ...['--disable-admission-plugins', 'ServiceAccount,TaintNodesByCondition', '--profiling=false'],
    ]);
  }

  /** Resolves when the API server reports that it is ready. */
  async ready(): Promise<void> {
    await until('the API server is ready', () => this.api.isReady());
  }

  async #startAll(): Promise<void> {
    this.#startEtcd();
    this.startApiServer();
    // Clients need the certificate of the API server. The API server writes the key last, so the certificate is complete when the key
    // exists.
    await until('the API server has a key', async () => existsSync(this.#file('certificates/apiserver.key')));
    this.#startControllers();
    const proxy = ['proxy', '--unix-socket', this.#file('api.sock')];
    this.#start('kubectl', [tools.kubectl, '--kubeconfig', this.kubeconfig('admin', inside), ...proxy]);
    await this.ready();
    const account = '/api/v1/namespaces/default/serviceaccounts/default';
    await until('the controllers run', async () => this.api.get(account));
  }

  #startEtcd(): void {
    const [client, peer] = ['http://127.0.0.1:2379', 'http://127.0.0.1:2380'];
    this.#start('etcd', [
      ...[tools.etcd, '--data-dir', this.#file('etcd'), '--unsafe-no-fsync', '--log-level', 'warn'],
      ...['--listen-client-urls', client, '--advertise-client-urls', client, '--listen-peer-urls', peer],
      ...['--initial-advertise-peer-urls', peer, '--initial-cluster', `default=${peer}`],
    ]);
  }

  #startControllers(): void {
    this.#start('kube-controller-manager', [
      ...[tools.controllerManager, '--kubeconfig', this.kubeconfig('controllers', inside), '--leader-elect=false'],
      ...['--controllers', controllers.join(','), '--service-cluster-ip-range', serviceCidrs, '--root-ca-file', this.caFile],
      ...['--service-account-private-key-file', this.#file('accounts.key'), '--use-service-account-credentials'],
      ...['--bind-address', '127.0.0.1', '--cert-dir', this.#file('controllers'), '--profiling=false'],
      ...['--kube-api-qps', '500', '--kube-api-burst', '1000'],
    ]);
  }

  #start(name: string, command: readonly string[]): void {
    const started = this.#lab.start('api', command);
    this.#processes.set(name, started);
    void started.ended.then((code) => this.#ended.reject(new Error(`${name} ended with exit code ${code}.`)));
  }

  #file(name: string): string {
    return join(this.#directory, name);
  }
}

/** Writes a kubeconfig for one server and one token. Returns its path. */
export function writeKubeconfig(
  path: string,
  { server, caFile, ...user }: { server: string; caFile: string; token?: string; tokenFile?: string },
): string {
  const config = {
    ...{ apiVersion: 'v1', kind: 'Config', 'current-context': 'test' },
    clusters: [{ name: 'test', cluster: { server, 'certificate-authority': caFile } }],
    users: [{ name: 'test', user }],
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
  };
  // JSON is valid YAML.
  writeFileSync(path, JSON.stringify(config), { mode: 0o600 });
  return path;
}
