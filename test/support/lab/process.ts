// SPDX-License-Identifier: Apache-2.0
// A child process of the lab, in a namespace and perhaps in the lab's cgroup. Its lines can be waited for; it is killed by
// its own id only.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface StartOptions {
  /** Let its sockets be translated: put it into the lab's cgroup. */
  readonly inCgroup?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

interface Spawn {
  readonly netns: string;
  readonly cgroup: string | undefined;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

const LINE_TIMEOUT_MS = 60_000;
const SHOWN_LINES = 20;

export class LabProcess {
  readonly #child: ChildProcess;
  /** Everything it printed, both streams. */
  readonly lines: string[] = [];
  /** Exit code, or minus one for a signal. */
  readonly ended: Promise<number>;
  readonly #waiters = new Set<() => void>();
  #isEnded = false;

  constructor({ netns, cgroup, command, env }: Spawn) {
    // exec keeps one process id from the shell to the command. It goes with us, also when we are killed.
    const join = cgroup === undefined ? '' : `echo $$ > '${cgroup}/cgroup.procs' && `;
    this.#child = spawn('sh', ['-c', `${join}exec setpriv --pdeathsig KILL nsenter --net='${netns}' "$@"`, 'sh', ...command], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      if (stream !== null) createInterface({ input: stream }).on('line', (line) => this.#onLine(line));
    }
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code) => {
        this.#isEnded = true;
        this.#wake();
        resolve(code ?? -1);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** The first line from index `from` on that `is` accepts. Rejects with everything printed when the process ends first. */
  async line(is: (line: string) => boolean, from = 0): Promise<string> {
    const timeout = Date.now() + LINE_TIMEOUT_MS;
    for (;;) {
      const found = this.lines.slice(from).find(is);
      if (found !== undefined) return found;
      if (this.#isEnded || Date.now() > timeout) {
        throw new Error(
          `${this.#isEnded ? 'the process ended' : 'the line did not come'}; it printed last:\n${this.lines.slice(-SHOWN_LINES).join('\n')}`,
        );
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, 1000);
        this.#waiters.add(() => (clearTimeout(timer), resolve()));
      });
    }
  }

  /** Sends one line and resolves with the next one it prints. */
  async ask(question: string): Promise<string> {
    const from = this.lines.length;
    this.#child.stdin?.write(`${question}\n`);
    return this.line(() => true, from);
  }

  signal(signal: NodeJS.Signals): void {
    if (!this.#isEnded) this.#child.kill(signal);
  }

  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<number> {
    this.signal(signal);
    return this.ended;
  }

  killNow(): void {
    this.signal('SIGKILL');
  }

  #onLine(line: string): void {
    this.lines.push(line);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }
}
