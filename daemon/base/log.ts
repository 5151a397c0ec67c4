// SPDX-License-Identifier: Apache-2.0
// The log: JSON lines {level, ts, subsys, msg, ...} on stderr, or the same as text. One line per state change, never one per
// packet. It must never block the daemon: when stderr is not read, lines are buffered up to a limit, then dropped and counted.
// main.ts creates the only logger; agent.ts passes child loggers to the parts of the daemon.
import { type DestinationStream, destination, type Logger, type LoggerOptions, pino, stdSerializers } from 'pino';

import { printableLogLine, printableValue } from './printable.ts';
import { InvalidObjectError, KernelError, ExitError } from './errors.ts';

interface LogOptions {
  readonly logLevel: string;
  readonly logFormat: 'text' | 'json';
}

const stderr = 2;
const BUFFER_BYTES = 1 << 20;
const FLUSH_MS = 500;

/** stderr, written asynchronously. */
export class LogOutput {
  readonly stream = destination({ dest: stderr, sync: false, maxLength: BUFFER_BYTES });
  #dropped = 0;

  constructor() {
    this.stream.on('drop', () => (this.#dropped += 1));
  }

  /** Logs the number of dropped lines when stderr is read again. */
  reportDrops(log: Logger): void {
    this.stream.on('drain', () => {
      if (this.#dropped > 0) log.warn({ lines: this.#dropped }, 'log lines were dropped because stderr was not read');
      this.#dropped = 0;
    });
  }

  /** Resolves when all lines are written, or after FLUSH_MS. Call it before the process ends. */
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
    // Lines contain neither pid nor host name, because the log collector of a node adds both.
    base: null,
    timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    formatters: { level: (level) => ({ level }) },
    serializers: { err: errorFields },
    hooks: { streamWrite: options.logFormat === 'json' ? printableLogLine : textLine },
  };
  return pino(settings, options.logFormat === 'json' ? to : await textStream(to));
}

/** A logger for one part of the daemon: "source", "reconcile", "api". */
export function subsystem(log: Logger, subsys: string): Logger {
  return log.child({ subsys });
}

/** The message of an expected error is sufficient; only unexpected errors are logged with their stack trace. */
function errorFields(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  if (error instanceof KernelError) {
    const { name, message, op, object, code } = error;
    return { name, message, op, object, code };
  }
  if (error instanceof InvalidObjectError || error instanceof ExitError) return { name: error.name, message: error.message };
  return stdSerializers.err(error);
}

/** A record for textStream(), which prints its texts as they are. */
function textLine(line: string): string {
  return `${JSON.stringify(printableValue(JSON.parse(line)))}\n`;
}

async function textStream(to: DestinationStream): Promise<DestinationStream> {
  // Loaded only for this format, since it takes 1 MB of memory.
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
