// SPDX-License-Identifier: Apache-2.0
// ServiceCIDR object (networking.k8s.io/v1) -> ServiceCIDR row: address ranges that ClusterIPs are allocated from. An invalid
// CIDR is reported and ignored. Pure.
import { z } from 'zod';
import type { InvalidObjectError } from '../../base/errors.ts';
import type { ServiceCIDR } from '../../model/service-cidr.ts';
import { must, read, readEach, type Metadata, type Subject, type Conversion } from './fields.ts';

const specSchema = z.object({ cidrs: z.array(z.unknown(), must('a list')).nullish() }, must('an object'));

/** Throws InvalidObjectError. */
export function convertServiceCIDR(raw: { readonly spec?: unknown }, metadata: Metadata, at: Subject): Conversion<ServiceCIDR> {
  const spec = read(specSchema, raw.spec, { ...at, path: ['spec'] });
  const problems: InvalidObjectError[] = [];
  const cidrs = readEach(spec.cidrs ?? [], { at, fieldOf: (index) => `spec.cidrs[${index}]`, kind: 'a CIDR', problems });
  return { row: { name: metadata.name, cidrs }, problems };
}
