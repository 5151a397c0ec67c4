// SPDX-License-Identifier: Apache-2.0
// The Services of the in-situ benchmark rows. Sluice and the floor programs must serve the same frontends.
import { expect, test } from 'vitest';
import { convertObject } from '../../../daemon/source/objects.ts';
import { floorFrontends, nodePorts, objects } from '../../bench/situ/services.ts';

interface ServiceObject {
  readonly kind: string;
  readonly spec: { readonly clusterIP: string; readonly ports: readonly { readonly port: number; readonly nodePort?: number }[] };
}

test('the 10,000 Services cause no problems, and the floor programs serve each of their frontends once', () => {
  const services = objects().filter((each) => (each as ServiceObject).kind === 'Service') as ServiceObject[];
  expect(services).toHaveLength(10_000);
  const wanted = services.flatMap(({ spec }) =>
    spec.ports.flatMap(({ port, nodePort }) => [
      `${spec.clusterIP}:${port}`,
      ...(nodePort === undefined ? [] : [`${nodePorts.address}:${nodePort}`]),
    ]),
  );
  const served = floorFrontends().map(({ address, port }) => `${address}:${port}`);
  expect(served.toSorted()).toEqual(wanted.toSorted());
  expect(new Set(wanted).size).toBe(11_000);
  expect(objects().flatMap((each) => convertObject(each).problems)).toEqual([]);
});
