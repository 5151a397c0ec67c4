// SPDX-License-Identifier: Apache-2.0
// `npm run demo`: shows Service load balancing with real packets between network namespaces. Every printed number is measured
// in this run, and every claim is checked: the exit code is 1 if a check fails. The demo removes everything that it makes, also
// when it fails or is interrupted. It must never send a packet outside its namespaces.
import { join } from 'node:path';
import { Lab } from '../support/lab/lab.ts';
import { fact, line } from './account.ts';
import { Story } from './story.ts';

const signals = { SIGINT: 130, SIGTERM: 143 } as const;

function failed(error: unknown): number {
  process.stderr.write(`demo: ${error instanceof Error ? error.message : String(error)}\n`);
  return 1;
}

async function main(): Promise<number> {
  if (process.getuid?.() !== 0) {
    process.stderr.write(
      'demo: The demo needs root for network namespaces and BPF programs. Run it with sudo, or in a container that has CAP_SYS_ADMIN.\n',
    );
    return 1;
  }
  let lab: Lab;
  try {
    lab = new Lab();
  } catch (error) {
    return failed(error);
  }
  for (const [signal, code] of Object.entries(signals)) {
    process.once(signal, () => {
      lab.closeNow();
      line();
      line(`The demo received ${signal} and removed everything that it had made.`);
      process.exit(code);
    });
  }
  const story = new Story(lab, join(import.meta.dirname, 'example'));
  try {
    await story.tell();
    return story.failures.length === 0 ? 0 : 1;
  } catch (error) {
    line();
    return failed(error);
  } finally {
    await lab.close();
    line();
    for (const failure of story.failures) fact(`FAILED CHECK: ${failure}`);
    line('The demo removed its namespaces, programs, maps, cgroup and files.');
  }
}

process.exit(await main());
