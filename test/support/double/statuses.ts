// SPDX-License-Identifier: Apache-2.0
// Error responses with the codes, reasons and messages of a real API server.
import type { Collection } from './objects.ts';

export interface Refusal {
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  /** In seconds. */
  readonly retryAfter?: number;
}

/** The Status object. */
export const statusOf = ({ code, reason, message, retryAfter }: Refusal): object => ({
  ...{ kind: 'Status', apiVersion: 'v1', metadata: {}, status: 'Failure', message, reason, code },
  ...(retryAfter === undefined ? {} : { details: { retryAfterSeconds: retryAfter } }),
});

export const unauthorized: Refusal = { code: 401, reason: 'Unauthorized', message: 'Unauthorized' };

export const user = 'system:serviceaccount:kube-system:sluice';

export const forbidden = (verb: string, { resource, group }: Collection): Refusal => ({
  ...{ code: 403, reason: 'Forbidden' },
  message: `${resource}${group === '' ? '' : `.${group}`} is forbidden: User "${user}" cannot ${verb} resource "${resource}" in API group "${group}" at the cluster scope`,
});

export const tooMany = (retryAfter?: number): Refusal => ({
  ...{ code: 429, reason: 'TooManyRequests', message: 'Too many requests, please try again later.' },
  ...(retryAfter === undefined ? {} : { retryAfter }),
});

export const unavailable = (retryAfter?: number): Refusal => ({
  ...{ code: 503, reason: 'ServiceUnavailable', message: 'apiserver is shutting down.' },
  ...(retryAfter === undefined ? {} : { retryAfter }),
});

export const internal: Refusal = { code: 500, reason: 'InternalError', message: 'Internal error occurred: etcdserver: leader changed' };

export const notFound: Refusal = { code: 404, reason: 'NotFound', message: 'the server could not find the requested resource' };

export const expired = (requested: string, oldest: number): Refusal => ({
  ...{ code: 410, reason: 'Expired', message: `too old resource version: ${requested} (${oldest})` },
});

export const expiredContinue: Refusal = {
  ...{ code: 410, reason: 'Expired' },
  message: 'The provided continue parameter is too old to display a consistent list result.',
};

export const noWatchList: Refusal = {
  ...{ code: 422, reason: 'Invalid' },
  message:
    'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled',
};
