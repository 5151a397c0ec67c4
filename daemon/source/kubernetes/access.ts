// SPDX-License-Identifier: Apache-2.0
// Addresses of the API server and the credentials for it. Implemented by in-cluster.ts and kubeconfig.ts, used by
// connection.ts.

/** Options of a new TLS connection, as PEM texts. For an option that is absent, the default of Node.js applies. */
export interface TlsMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** The name that the server's certificate must contain, if it differs from the address. */
  readonly servername?: string;
  /** Whether the server's certificate is verified. If false, every certificate is accepted. */
  readonly rejectUnauthorized?: boolean;
}

export interface ClusterAccess {
  /** Base addresses, tried in turn: "https://10.0.0.1:6443". At least one. */
  readonly servers: readonly URL[];
  /** Description of the credentials for messages. Examples: "the service account in /var/run/...", "user admin of /root/.kube/config". */
  readonly description: string;
  /** Called for each new connection, because files may have changed. Throws CredentialError. */
  tls(): Promise<TlsMaterial>;
  /**
   * Value of the Authorization header. Called for each request, because a token may have been rotated. Throws
   * CredentialError.
   */
  authorization(): Promise<string | undefined>;
  /** Drops this value of the header from the cache, because the server refused (401) a request with it. */
  invalidate(authorization: string | undefined): void;
  /** Ends all pending calls. The object must not be used afterwards. */
  close(): void;
}
