// SPDX-License-Identifier: Apache-2.0
// The output functions of the demo: headings, facts, bars, and a progress line for work that takes longer than a second.
// They only print; story.ts and main.ts call them.
const WIDTH = 30;
const PROGRESS_AFTER_MS = 1000;

let step = 0;

export const line = (text = ''): void => void process.stdout.write(`${text}\n`);

export function heading(text: string): void {
  step += 1;
  line();
  line(`${step}. ${text}`);
}

export const fact = (text: string): void => line(`   ${text}`);

/** Prints one bar for each backend, proportional to its share of the answers. */
export function bars(label: string, answers: Readonly<Record<string, number>>): void {
  const total = Object.values(answers).reduce((sum, count) => sum + count, 0);
  fact(label);
  for (const [name, count] of Object.entries(answers).sort(([a], [b]) => (a < b ? -1 : 1))) {
    const length = Math.round((count / total) * WIDTH * 1.5);
    fact(`  ${name}  ${'#'.repeat(length).padEnd(WIDTH)} ${String(count).padStart(4)}`);
  }
}

/** Prints a progress line if the work takes longer than a second. A terminal shows the elapsed time in place. */
export async function progress<T>(what: string, work: Promise<T>): Promise<T> {
  const began = performance.now();
  const state = { isShown: false };
  const show = (): void => {
    const text = `   ... ${what}, ${Math.round((performance.now() - began) / 1000)} s`;
    if (process.stdout.isTTY) process.stdout.write(`\r${text}`);
    else if (!state.isShown) line(text);
    state.isShown = true;
  };
  const timer = setInterval(show, PROGRESS_AFTER_MS);
  try {
    return await work;
  } finally {
    clearInterval(timer);
    if (state.isShown && process.stdout.isTTY) process.stdout.write('\r\u001B[K');
  }
}

export const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
