// SPDX-License-Identifier: Apache-2.0
// The log: JSON lines {level, ts, subsys, msg, ...}, or the same as text. One line per state change, never one per packet. The lines
// go to LogOutput, which never blocks. main.ts creates the only logger; agent.ts passes child loggers to the parts of the daemon.
import { isatty } from 'node:tty';
import { type DestinationStream, type Logger, type LoggerOptions, pino, stdSerializers } from 'pino';

import { printableLogLine, printableValue } from './printable.ts';
import { InvalidObjectError, KernelError, ExitError } from './errors.ts';

interface LogOptions {
  readonly logLevel: string;
  readonly logFormat: 'text' | 'json';
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

/** The record for textStream(). Its texts are made printable here, because textStream() prints texts unchanged. */
function textLine(line: string): string {
  return `${JSON.stringify(printableValue(JSON.parse(line)))}\n`;
}

const stderr = 2;

async function textStream(to: DestinationStream): Promise<DestinationStream> {
  // pino-pretty is loaded only for this format, since it takes 1 MB of memory.
  const { prettyFactory } = await import('pino-pretty');
  const format = prettyFactory({
    colorize: 'fd' in to && isatty(stderr) && !process.env['NO_COLOR'],
    timestampKey: 'ts',
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    messageFormat: '{if subsys}{subsys}: {end}{msg}',
    ignore: 'subsys',
    singleLine: true,
  });
  // There is no stream between the formatter and the output, because a stream would keep an unlimited number of lines that are not read.
  return { write: (line) => to.write(format(line)) };
}
