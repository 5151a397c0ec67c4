// SPDX-License-Identifier: Apache-2.0
// `npm run demo`: the main job on real packets, with an account of what happened. Every number is measured in this run, and
// every claim is checked: a failed check ends it with exit code 1. All that it makes is removed, however it ends.
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
      'demo: network namespaces and BPF programs need root: run it with sudo, or in a container that has CAP_SYS_ADMIN\n',
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
      line(`${signal}: everything that the demo made is removed`);
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
    for (const failure of story.failures) fact(`NOT AS IT SHOULD BE: ${failure}`);
    line('Removed: namespaces, programs, maps, cgroup, files.');
  }
}

process.exit(await main());
