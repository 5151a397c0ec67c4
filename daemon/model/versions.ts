// SPDX-License-Identifier: Apache-2.0
// The versions that `--version`, the build metric and the status show. Made by host/version.ts.

export interface Versions {
  readonly version: string;
  /** Commit of the program; "" if it is unknown. */
  readonly commit: string;
  readonly libbpf: string;
  readonly kernel: string;
}
