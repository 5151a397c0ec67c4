// SPDX-License-Identifier: Apache-2.0
// The log: JSON lines {level, ts, subsys, msg, ...} on stderr, or the same as text for people. One line per state change,
// never one per packet. It must never hold the daemon up: where nobody reads stderr, lines are kept up to a limit, then
// dropped and counted. main.ts makes the one logger, agent.ts gives each room its child; no room makes its own.
import { type DestinationStream, destination, type Logger, type LoggerOptions, pino, stdSerializers } from 'pino';

import { InvalidObjectError, KernelError, ExitError } from './errors.ts';

interface LogOptions {
  readonly logLevel: string;
  readonly logFormat: 'text' | 'json';
}

const stderr = 2;
const KEPT_BYTES = 1 << 20;
const FLUSH_MS = 500;

/** Stderr, written beside the event loop. */
export class LogOutput {
  readonly stream = destination({ dest: stderr, sync: false, maxLength: KEPT_BYTES });
  #dropped = 0;

  constructor() {
    this.stream.on('drop', () => (this.#dropped += 1));
  }

  /** Tells the log how many lines it lost, once somebody reads again. */
  report(log: Logger): void {
    this.stream.on('drain', () => {
      if (this.#dropped > 0) log.warn({ lines: this.#dropped }, 'log lines were dropped, since nobody read them');
      this.#dropped = 0;
    });
  }

  /** Resolves when all is written, or nobody reads. Call it before the process ends. */
  flush(): Promise<void> {
    return new Promise((resolve) => {
      setTimeout(resolve, FLUSH_MS).unref();
      this.stream.flush(() => resolve());
    });
  }
}

/** The daemon's logger. */
export async function createLog(options: LogOptions, to: DestinationStream): Promise<Logger> {
  const settings: LoggerOptions = {
    level: options.logLevel,
    // No pid and host name: the collector of a node agent's lines knows both.
    base: null,
    timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    formatters: { level: (level) => ({ level }) },
    serializers: { err: errorFields },
  };
  return pino(settings, options.logFormat === 'json' ? to : await textStream(to));
}

/** The part of the daemon that speaks: "source", "reconcile", "api". */
export function subsystem(log: Logger, subsys: string): Logger {
  return log.child({ subsys });
}

/** Our own errors say all in their sentence; a stack helps only with those that nobody foresaw. */
function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if (error instanceof KernelError) {
    const { name, message, op, object, code } = error;
    return { name, message, op, object, code };
  }
  if (error instanceof InvalidObjectError || error instanceof ExitError) return { name: error.name, message: error.message };
  return stdSerializers.err(error);
}

async function textStream(to: DestinationStream): Promise<DestinationStream> {
  // Loaded only for people: it takes a megabyte.
  const { default: pretty } = await import('pino-pretty');
  return pretty({
    colorize: 'fd' in to && process.stderr.isTTY && !process.env['NO_COLOR'],
    timestampKey: 'ts',
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    messageFormat: '{if subsys}{subsys}: {end}{msg}',
    ignore: 'subsys',
    singleLine: true,
    destination: to as NodeJS.WritableStream,
  });
}
