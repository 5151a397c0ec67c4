#!/usr/bin/env node
// SPDX-License-Identifier: Apache-2.0
// The executable `sluice`: passes the process and the modules of the larger commands to run(). The modules are loaded when their
// command runs. A reader that closes the pipe early (`sluice service list | head`) is not an error.
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
  uninstall: async (options) => (await import('./uninstall.ts')).runUninstall(options),
});
