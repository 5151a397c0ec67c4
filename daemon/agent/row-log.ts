// SPDX-License-Identifier: Apache-2.0
// Logs the failures and recoveries that the reconcile loops report. When many rows fail or recover together, only the first ones are logged,
// and then the number of the others; the status shows which rows fail at present.
import type { Logger } from 'pino';
import type { Clock } from '../base/clock.ts';
import { limitedLog } from '../base/limited-log.ts';
import type { ReconcileLog } from '../table/status.ts';

export interface RowLogOptions<K> {
  readonly log: Pick<Logger, 'debug' | 'info' | 'error'>;
  readonly clock: Pick<Clock, 'setTimer'>;
  /** The fields of a log line that name the row. */
  readonly fieldsOf: (key: K) => object;
  readonly failed: string;
  readonly recovered: string;
  /** Whether the failure needs no attention, so that its level is debug. Default: never. */
  readonly isExpected?: (error: Error) => boolean;
  readonly onRepaired: (message: string) => void;
}

export function rowLog<K>(options: RowLogOptions<K>): ReconcileLog<K> {
  const { log, clock, fieldsOf, failed, recovered, isExpected, onRepaired } = options;
  const logFailed = limitedLog<[K, Error]>(clock, {
    write: (key, err) => log.error({ ...fieldsOf(key), err }, failed),
    leftOut: (notLogged) => log.error({ notLogged }, 'further failures of this kind are not logged; see sluice status'),
  });
  const logRecovered = limitedLog<[K, number]>(clock, {
    write: (key, retries) => log.info({ ...fieldsOf(key), retries }, recovered),
    leftOut: (notLogged) => log.info({ notLogged }, 'further recoveries of this kind are not logged'),
  });
  return {
    rowFailed: (key, err) => {
      if (isExpected?.(err) === true) log.debug({ ...fieldsOf(key), err }, failed);
      else logFailed(key, err);
    },
    rowRecovered: logRecovered,
    stepFailed: (step, err) => log.error({ step, err }, 'step failed, will be retried'),
    stepRecovered: (step) => log.info({ step }, 'step succeeded after retries'),
    repaired: onRepaired,
  };
}
