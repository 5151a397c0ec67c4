// SPDX-License-Identifier: Apache-2.0
// A child process of the lab in a network namespace and, if requested, in the cgroup of its node. Tests can wait for lines of its output.
// It must only be killed by its process id. Used by lab.ts.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

export interface StartOptions {
  /** Run it in the cgroup of its node, so that socket hooks translate its sockets. */
  readonly inCgroup?: boolean;
  readonly env?: Readonly<Record<string, string>>;
}

interface Spawn {
  readonly netns: string;
  readonly cgroup: string | undefined;
  readonly command: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

/** Limit of a wait for a line whose caller names no other limit, in ms: far more than any single step of a test takes. */
const LINE_TIMEOUT_MS = 60_000;
const SHOWN_LINES = 20;

export class LabProcess {
  readonly #child: ChildProcess;
  /** All lines of stdout and stderr. */
  readonly lines: string[] = [];
  /** The lines of stdout. ask() returns one of them as the answer. */
  readonly #answers: string[] = [];
  /** Exit code; -1 when a signal ended the process. */
  readonly ended: Promise<number>;
  readonly #waiters = new Set<() => void>();
  #isEnded = false;

  constructor({ netns, cgroup, command, env }: Spawn) {
    // The command keeps the process id of the shell, because the shell executes it with exec. The kernel kills the command
    // when this process ends.
    const join = cgroup === undefined ? '' : `echo $$ > '${cgroup}/cgroup.procs' && `;
    this.#child = spawn('sh', ['-c', `${join}exec setpriv --pdeathsig KILL nsenter --net='${netns}' "$@"`, 'sh', ...command], {
      stdio: ['pipe', 'pipe', 'pipe'],
      env: { ...process.env, ...env },
    });
    const { stdout, stderr } = this.#child;
    if (stdout !== null) createInterface({ input: stdout }).on('line', (line) => this.#onLine(line, this.#answers));
    if (stderr !== null) createInterface({ input: stderr }).on('line', (line) => this.#onLine(line));
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

  /** Waits for a line that `is` accepts, from index `from` on. Rejects with the last lines when the process ends or on a timeout. */
  async line(is: (line: string) => boolean, from = 0, timeoutMs = LINE_TIMEOUT_MS): Promise<string> {
    return this.#find(() => this.lines.slice(from).find(is), timeoutMs);
  }

  /**
   * Sends a line. Resolves with the next line of stdout. A question whose answer takes long needs a `timeoutMs` of its own. A line on
   * stderr is not an answer; it is in the error message when the process ends without an answer.
   */
  async ask(question: string, timeoutMs = LINE_TIMEOUT_MS): Promise<string> {
    const from = this.#answers.length;
    this.#child.stdin?.write(`${question}\n`);
    return this.#find(() => this.#answers[from], timeoutMs);
  }

  async #find(find: () => string | undefined, timeoutMs: number): Promise<string> {
    const timeout = Date.now() + timeoutMs;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (this.#isEnded || Date.now() > timeout) {
        const reason = this.#isEnded ? 'the process ended' : `the line did not appear within ${timeoutMs} ms`;
        throw new Error(`${reason}; its last lines are:\n${this.lines.slice(-SHOWN_LINES).join('\n')}`);
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(1000, timeoutMs));
        this.#waiters.add(() => (clearTimeout(timer), resolve()));
      });
    }
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

  #onLine(line: string, more?: string[]): void {
    this.lines.push(line);
    more?.push(line);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#waiters) wake();
    this.#waiters.clear();
  }
}
