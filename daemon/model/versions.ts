// SPDX-License-Identifier: Apache-2.0
// What `--version`, the build metric and the status say about the program and its host. Made by host/version.ts.

export interface Versions {
  readonly version: string;
  /** "" when unknown. */
  readonly commit: string;
  readonly libbpf: string;
  readonly kernel: string;
}
