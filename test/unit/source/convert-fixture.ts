// SPDX-License-Identifier: Apache-2.0
// API objects and the results of their conversion, for the tests of daemon/source.
import { InvalidObjectError } from '../../../daemon/base/errors.ts';
import { convertObject } from '../../../daemon/source/objects.ts';

export const serviceObject = (spec: object, metadata: object = {}) => ({
  apiVersion: 'v1',
  kind: 'Service',
  metadata: { name: 'web', ...metadata },
  spec,
});
export const sliceObject = (fields: object, labels: object = { 'kubernetes.io/service-name': 'web' }) => ({
  apiVersion: 'discovery.k8s.io/v1',
  kind: 'EndpointSlice',
  metadata: { name: 'web-1', labels },
  addressType: 'IPv4',
  ports: [{ name: '', port: 8080, protocol: 'TCP' }],
  ...fields,
});

export const rowOf = (raw: unknown): unknown => {
  const converted = convertObject(raw);
  return converted.kind === 'unknown' ? 'unknown kind' : converted.row;
};
export const problemsOf = (raw: unknown): string[] => convertObject(raw).problems.map(({ message }) => message);

export function rejectionOf(raw: unknown): InvalidObjectError {
  try {
    convertObject(raw);
  } catch (error) {
    if (error instanceof InvalidObjectError) return error;
    throw error;
  }
  throw new Error('the object was accepted');
}
