// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
// The C compiler of the BPF programs and its flags. The build and `npm run check` share the flags, so that both compile a header
// in the same way.

const multiarch = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch as 'x64' | 'arm64'];

export const clang = 'clang-19';

/** -mcpu=v3 has 32-bit and atomic instructions (Linux 5.12). Warnings are errors. */
export const clangFlags: readonly string[] = [
  ...['-O2', '-g', '-target', 'bpf', '-mcpu=v3', '-Wall', '-Wextra', '-Wshadow', '-Werror'],
  `-I/usr/include/${multiarch}`,
];
