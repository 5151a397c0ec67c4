#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The executable of the `sluice` command: gives run() the real process and nothing else. A reader that closes the pipe
// (`sluice service list | head`) is no error.
import { run } from './run.ts';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit();
});

process.exitCode = await run(process.argv.slice(2), {
  env: process.env,
  out: (text) => void process.stdout.write(text),
  err: (text) => void process.stderr.write(text),
  preflight: async (options) => (await import('./preflight.ts')).runPreflight(options),
  explain: async (options) => (await import('./explain.ts')).runExplain(options),
  plan: async (options) => (await import('./plan.ts')).runPlan(options),
  uninstall: async (options) => (await import('../offline/uninstall.ts')).uninstall(options),
});
