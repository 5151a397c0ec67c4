// SPDX-License-Identifier: Apache-2.0
// Limits the EndpointSlices of one Service in sum. Each slice is limited by itself, but their number is not. The oldest slices are used, so
// that what was served stays served while slices are added. Pure; the result does not depend on the order of the input. Called by
// service-controller.ts.
import { type Family, families } from '../../model/address.ts';
import { backendCount, type EndpointSlice, MAX_SERVICE_BACKENDS } from '../../model/endpoint-slice.ts';
import { objectKey } from '../../model/object-key.ts';
import { compareText } from '../../model/order.ts';

export interface LimitedSlices {
  readonly used: readonly EndpointSlice[];
  /** One message for each IP family in which slices are left out. */
  readonly messages: readonly string[];
}

/** `slices` are the EndpointSlices of one Service. */
export function limitedSlices(slices: readonly EndpointSlice[], most = MAX_SERVICE_BACKENDS): LimitedSlices {
  const large = families.filter((family) => backendsIn(slices, family) > most);
  if (large.length === 0) return { used: slices, messages: [] };
  const used = slices.filter(({ family }) => !large.includes(family));
  for (const family of large)
    used.push(
      ...oldest(
        slices.filter((slice) => slice.family === family),
        most,
      ),
    );
  const [{ namespace, service } = { namespace: '', service: '' }] = slices;
  const key = objectKey({ namespace, name: service });
  // The message contains no number that changes with each slice, so that it is logged once.
  const messages = large.map(
    (family) =>
      `Service ${key}: its EndpointSlices have more than ${most} combinations of endpoints and ports in ${family}, so the newest slices are not used: divide the Service`,
  );
  return { used, messages };
}

const backendsIn = (slices: readonly EndpointSlice[], family: Family): number =>
  slices.reduce((sum, slice) => sum + (slice.family === family ? backendCount(slice) : 0), 0);

/** The oldest slices that have at most this number of backends together. A slice of unknown age counts as the newest. */
function oldest(slices: readonly EndpointSlice[], most: number): EndpointSlice[] {
  const sorted = slices.toSorted((a, b) => (a.created ?? Infinity) - (b.created ?? Infinity) || compareText(a.name, b.name));
  let sum = 0;
  const end = sorted.findIndex((slice) => {
    sum += backendCount(slice);
    return sum > most;
  });
  return end === -1 ? sorted : sorted.slice(0, end);
}
