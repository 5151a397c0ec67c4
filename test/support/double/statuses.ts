// SPDX-License-Identifier: Apache-2.0
// How the API server refuses, in its own words.
import type { Collection } from './objects.ts';

export interface ExitError {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  /** Seconds. */
  readonly retryAfter?: number;
}

export const statusOf = ({ code, reason, message, retryAfter }: ExitError): object => ({
  ...{ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code },
  ...(retryAfter === undefined ? {} : { details: { retryAfterSeconds: retryAfter } }),
});

export const unauthorized: ExitError = { code: 401, reason: 'Unauthorized', message: 'Unauthorized' };

export const user = 'system:serviceaccount:kube-system:sluice';

export const forbidden = (verb: string, { resource, group }: Collection): ExitError => ({
  ...{ code: 403, reason: 'Forbidden' },
  message: `${resource}${group === '' ? '' : `.${group}`} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${group}" at the cluster scope`,
});

export const tooMany = (retryAfter?: number): ExitError => ({
  ...{ code: 429, reason: 'TooManyRequests', message: 'Too many requests, please try again later.' },
  ...(retryAfter === undefined ? {} : { retryAfter }),
});

export const unavailable = (retryAfter?: number): ExitError => ({
  ...{ code: 503, reason: 'ServiceUnavailable', message: 'apiserver is shutting down.' },
  ...(retryAfter === undefined ? {} : { retryAfter }),
});

export const internal: ExitError = { code: 500, reason: 'InternalError', message: 'Internal error occurred: etcdserver: leader changed' };

export const notFound: ExitError = { code: 404, reason: 'NotFound', message: 'the server could not find the requested resource' };

export const tooOld = (asked: string, oldest: number): ExitError => ({
  ...{ code: 410, reason: 'Expired', message: `too old resource version: ${asked} (${oldest})` },
});

export const continueTooOld: ExitError = {
  ...{ code: 410, reason: 'Expired' },
  message: 'The provided continue parameter is too old to display a consistent list result.',
};

export const noWatchList: ExitError = {
  ...{ code: 422, reason: 'Invalid' },
  message:
    'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
};
