// SPDX-License-Identifier: Apache-2.0
// The log: JSON lines {level, ts, subsys, msg, ...} on stderr, or the same as text for people. One line per state change,
// never one per packet. Written synchronously, so that the last line before an exit is not lost. main.ts makes the one
// logger and gives each room its child; no room makes its own.
import { type DestinationStream, destination, type Logger, type LoggerOptions, pino, stdSerializers } from 'pino';
import { default as pretty, type PrettyOptions } from 'pino-pretty';

import { InvalidObjectError, KernelError, Refusal } from './errors.ts';

interface LogOptions {
  readonly logLevel: string;
  readonly logFormat: 'text' | 'json';
}

const stderr = 2;

/** The daemon's logger. `to` replaces stderr in tests. */
export function createLog(options: LogOptions, to?: DestinationStream): Logger {
  const settings: LoggerOptions = {
    level: options.logLevel,
    // No pid and host name: the collector of a node agent's lines knows both.
    base: null,
    timestamp: () => `,"ts":"${new Date().toISOString()}"`,
    formatters: { level: (level) => ({ level }) },
    serializers: { err: errorFields },
  };
  return pino(settings, options.logFormat === 'json' ? (to ?? destination({ dest: stderr, sync: true })) : textStream(to));
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
  if (error instanceof InvalidObjectError || error instanceof Refusal) return { name: error.name, message: error.message };
  return stdSerializers.err(error);
}

function textStream(to: DestinationStream | undefined): DestinationStream {
  const options: PrettyOptions = {
    colorize: to === undefined && process.stderr.isTTY && !process.env['NO_COLOR'],
    timestampKey: 'ts',
    translateTime: 'SYS:yyyy-mm-dd HH:MM:ss.l',
    messageFormat: '{if subsys}{subsys}: {end}{msg}',
    ignore: 'subsys',
    singleLine: true,
    sync: true,
  };
  return pretty(to === undefined ? { ...options, destination: stderr } : { ...options, destination: to as NodeJS.WritableStream });
}
