// SPDX-License-Identifier: Apache-2.0
// Where the API server is and how it knows us: what in-cluster.ts and kubeconfig.ts make, and connection.ts uses.

/** Of a new TLS connection, PEM texts; what is absent is Node's default. */
export interface TlsMaterial {
  readonly ca?: string;
  readonly cert?: string;
  readonly key?: string;
  /** Name that the server's certificate must be for, when it is not the address. */
  readonly servername?: string;
  /** False: any certificate will do. */
  readonly rejectUnauthorized?: boolean;
}

export interface ClusterAccess {
  /** Base addresses, tried in turn: "https://10.0.0.1:6443". At least one. */
  readonly servers: readonly URL[];
  /** How messages name the credentials: "the service account in /var/run/...", "user admin of /root/.kube/config". */
  readonly shown: string;
  /** Asked for every new connection: files may have changed. Throws CredentialError. */
  tls(): Promise<TlsMaterial>;
  /** Value of the Authorization header, asked for every request: a token may have been rotated. Throws CredentialError. */
  authorization(): Promise<string | undefined>;
  /** The server refused what we showed (401), this value of the header among it: if that is what is cached, it is forgotten. */
  forget(authorization: string | undefined): void;
  /** Ends whatever is under way, for good. */
  close(): void;
}
