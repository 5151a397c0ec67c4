// SPDX-License-Identifier: Apache-2.0
// Access to the API server by a kubeconfig. The file itself is read once, when the daemon starts, so that an invalid file
// prevents the start. The files that it names are read each time they are needed, because other programs rotate them.
import { createPrivateKey, X509Certificate } from 'node:crypto';
import { resolve } from 'node:path';
import { readBoundedText } from '../../base/bounded-read.ts';
import type { Clock } from '../../base/clock.ts';
import { ExitCode, ExitError } from '../../base/errors.ts';
import { systemReason } from '../../base/reasons.ts';
import type { ClusterAccess, TlsMaterial } from './access.ts';
import { CredentialError } from './api-client.ts';
import { MAX_CREDENTIAL_BYTES, readAuthority, readBearer, readCredential } from './credential-file.ts';
import { ExecCredential } from './exec-credential.ts';
import { type CurrentContext, readCurrentContext } from './kubeconfig-file.ts';

export interface KubeconfigOptions {
  readonly path: string;
  /** Addresses of the API server. If empty, the server of the kubeconfig's cluster is used. */
  readonly servers?: readonly URL[];
  /** Environment of an exec plugin. */
  readonly env: Readonly<NodeJS.ProcessEnv>;
  readonly clock: Clock;
  /** Returns the wall-clock time: Date.now, except in tests. */
  readonly wallNow?: () => number;
}

/** Throws ExitError for a file that is missing or invalid, or that requires an unsupported feature. */
export function kubeconfigAccess({ path, servers: given = [], env, clock, wallNow = Date.now }: KubeconfigOptions): ClusterAccess {
  const context = readCurrentContext(path, readOnce(path));
  const { cluster, user, userName, clusterField, folder } = context;
  const servers = given.length > 0 ? given : cluster.server === undefined ? [] : [cluster.server];
  const [server] = servers;
  if (server === undefined)
    throw new ExitError(ExitCode.config, `${path}: ${clusterField}.server: must be a URL such as https://10.0.0.1:6443, is missing`);

  const description = `user ${userName} of ${path}`;
  const plugin = user.exec ?? undefined;
  const exec =
    plugin === undefined
      ? undefined
      : new ExecCredential({
          // A command without a slash is looked up in PATH.
          plugin: plugin.command.includes('/') ? { ...plugin, command: resolve(folder, plugin.command) } : plugin,
          cluster: () => clusterInfo(context, server),
          ...{ env, clock, wallNow },
        });

  return {
    servers,
    description,
    async tls() {
      const { cert, key } = exec === undefined ? await clientPair(context) : await exec.get();
      if (cert !== undefined && key !== undefined) checkPair(cert, key, description);
      const ca = await authority(context);
      return {
        ...(ca === undefined ? {} : { ca }),
        ...(cert === undefined || key === undefined ? {} : { cert, key }),
        ...(cluster['tls-server-name'] === undefined ? {} : { servername: cluster['tls-server-name'] }),
        ...(cluster['insecure-skip-tls-verify'] ? { rejectUnauthorized: false } : {}),
      };
    },
    async authorization() {
      if (exec !== undefined) return (await exec.get()).authorization;
      // If both are set, tokenFile takes precedence, because it is rotated.
      if (user.tokenFile !== undefined) return readBearer(resolve(folder, user.tokenFile));
      return user.token === undefined ? undefined : `Bearer ${user.token}`;
    },
    invalidate: (authorization) => exec?.invalidate(authorization),
    close: () => exec?.close(),
  };
}

function readOnce(path: string): string {
  try {
    return readBoundedText(path, { maxBytes: MAX_CREDENTIAL_BYTES });
  } catch (cause) {
    throw new ExitError(ExitCode.config, `cannot read the --kubeconfig file ${path}: ${systemReason(cause)}`, { cause });
  }
}

/** As in kubectl, inline data takes precedence over a file, for the authority and for the client certificate. */
async function authority({ cluster, folder }: CurrentContext): Promise<string | undefined> {
  const file = cluster['certificate-authority'];
  return cluster['certificate-authority-data'] ?? (file === undefined ? undefined : readAuthority(resolve(folder, file)));
}

async function clientPair({ user, folder }: CurrentContext): Promise<Pick<TlsMaterial, 'cert' | 'key'>> {
  const read = async (data: string | undefined, file: string | undefined): Promise<string | undefined> =>
    data ?? (file === undefined ? undefined : readCredential(resolve(folder, file)));
  const cert = await read(user['client-certificate-data'], user['client-certificate']);
  const key = await read(user['client-key-data'], user['client-key']);
  return cert === undefined || key === undefined ? {} : { cert, key };
}

/** Certificate and key may be two files, which do not match while they are rotated. */
function checkPair(cert: string, key: string, description: string): void {
  let isPair: boolean;
  try {
    isPair = new X509Certificate(cert).checkPrivateKey(createPrivateKey(key));
  } catch (cause) {
    throw new CredentialError(`the client certificate or key of ${description} cannot be used: they are not valid PEM texts`, { cause });
  }
  if (!isPair) throw new CredentialError(`the client key of ${description} does not match its certificate`);
}

/** spec.cluster of the ExecCredential that an exec plugin receives. */
async function clusterInfo(context: CurrentContext, server: URL): Promise<object> {
  const { cluster } = context;
  const ca = await authority(context);
  const extension = cluster.extensions?.find(({ name }) => name === 'client.authentication.k8s.io/exec');
  return {
    server: server.href.replace(/\/$/, ''),
    'tls-server-name': cluster['tls-server-name'],
    'insecure-skip-tls-verify': cluster['insecure-skip-tls-verify'] || undefined,
    'certificate-authority-data': ca === undefined ? undefined : Buffer.from(ca).toString('base64'),
    config: extension?.['extension'],
  };
}
