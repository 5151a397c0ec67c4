// SPDX-License-Identifier: Apache-2.0
// The statements of test/README.md, part B, about changes of objects, tested with the controllers: labels, first lists, slices that
// change, frontends that move between Services, and affinity.
import { describe, expect, test } from 'vitest';
import { fakeLbMaps } from '../../support/fake-maps.ts';
import { frontendKey } from '../../../daemon/model/frontend.ts';
import { objectKey } from '../../../daemon/model/object-key.ts';
import type { Service } from '../../../daemon/model/service.ts';
import { backendTexts, endpointRow, portRow, serviceRow, slicePortRow, sliceRow } from '../../support/builders.ts';
import { World } from '../../support/world.ts';
import { serviceYaml, sliceYaml, startWorld } from '../source/fixture.ts';

const web = 'default/web:/TCP/IPv4';
const world = (): World => new World({ maps: fakeLbMaps() });
const backends = (of: World, key = web): string[] =>
  backendTexts((of.desired.get(key)?.backends ?? []).filter((backend) => backend.isUsable));
const ownerOf = (of: World, frontend: string): string | undefined =>
  [...of.desired.all()].find(([, row]) => row.frontends.some((each) => frontendKey(each) === frontend))?.[0];

test.for(['service.kubernetes.io/headless', 'service.kubernetes.io/service-proxy-name'])(
  '1.2: a Service that gains the label %s is withdrawn, and is served again when the label is removed',
  async (label) => {
    const labelled = serviceYaml('web').replace('  name: web\n', `  name: web\n  labels: {${label}: x}\n`);
    const source = await startWorld({ 'web.yaml': serviceYaml('web'), 'slice.yaml': sliceYaml('web-1') });
    expect(source.services).toEqual(['default/web']);
    source.write({ 'web.yaml': labelled });
    await source.settle();
    expect(source.services).toEqual([]);
    source.write({ 'web.yaml': serviceYaml('web') });
    await source.settle();
    expect(source.services).toEqual(['default/web']);
  },
);

test('1.7: nothing is programmed before the first lists are complete', () => {
  const early = world()
    .put(serviceRow(), sliceRow({ endpoints: [endpointRow('10.0.0.1')] }))
    .flush();
  expect({ ports: early.desired.size, host: early.host.size, ranges: early.ranges.size }).toEqual({ ports: 0, host: 0, ranges: 0 });
  early.listed();
  expect(early.desired.size).toBe(1);
});

test('3.3: a contested external IP moves to the next Service when its owner is deleted, and back when the owner is created again', () => {
  const old = serviceRow({ name: 'old', created: 1, clusterIPs: { IPv4: '10.96.0.1' }, externalIPs: ['192.0.2.1'] });
  const young = serviceRow({ name: 'young', created: 2, clusterIPs: { IPv4: '10.96.0.2' }, externalIPs: ['192.0.2.1'] });
  const both = world().listed().put(young).flush().put(old).flush();
  expect(ownerOf(both, '192.0.2.1:80/TCP')).toBe('default/old:/TCP/IPv4');
  both.services.delete(objectKey(old));
  expect(ownerOf(both.flush(), '192.0.2.1:80/TCP')).toBe('default/young:/TCP/IPv4');
  both.put(old);
  expect(ownerOf(both.flush(), '192.0.2.1:80/TCP')).toBe('default/old:/TCP/IPv4');
});

test('3.4: renaming a port deletes one row and adds another', () => {
  const renamed = world()
    .listed()
    .put(
      serviceRow({ ports: [portRow({ name: 'a' })] }),
      sliceRow({ ports: [slicePortRow({ name: 'b' })], endpoints: [endpointRow('10.0.0.1')] }),
    )
    .flush();
  renamed.put(serviceRow({ ports: [portRow({ name: 'b' })] })).flush();
  expect([...renamed.desired.all()].map(([key]) => key)).toEqual(['default/web:b/TCP/IPv4']);
  expect(backends(renamed, 'default/web:b/TCP/IPv4')).toEqual(['10.0.0.1:8080']);
});

describe('8: slices and their Service', () => {
  const slice = sliceRow({ endpoints: [endpointRow('10.0.0.1')] });

  test('8.1: a slice for an unknown Service is kept, and is used when the Service appears', () => {
    const late = world().listed().put(slice).flush();
    expect(late.desired.size).toBe(0);
    expect(backends(late.put(serviceRow()).flush())).toEqual(['10.0.0.1:8080']);
  });

  test('8.6: an endpoint that moves to another slice is never missing', () => {
    const moving = world()
      .listed()
      .put(serviceRow(), slice, sliceRow({ name: 'web-2' }))
      .flush();
    const before = moving.desired.revision;
    moving.put(sliceRow(), sliceRow({ name: 'web-2', endpoints: slice.endpoints })).flush();
    expect(moving.desired.revision).toBe(before);
    expect(backends(moving)).toEqual(['10.0.0.1:8080']);
  });

  test('8.8: the slices of a deleted Service are kept, and a Service whose slices are deleted is kept', () => {
    const both = world().listed().put(serviceRow(), slice).flush();
    both.services.delete('default/web');
    expect(both.flush().desired.size).toBe(0);
    expect(backends(both.put(serviceRow()).flush())).toEqual(['10.0.0.1:8080']);
    both.slices.delete('default/web-1');
    expect(both.flush().desired.get(web)?.backends).toEqual([]);
  });
});

describe('10: affinity', () => {
  const ports = [portRow({ name: 'a', nodePort: 30_080 }), portRow({ name: 'b', port: 81 })];
  const affinity = (of: World): number[] => [...of.desired.all()].map(([, row]) => row.affinitySeconds);

  test('session affinity is set per Service port, is shared by all its frontends of a family, and follows changes', () => {
    const put = (affinitySeconds: number): Service => serviceRow({ ports, affinitySeconds, type: 'NodePort', externalIPs: ['192.0.2.1'] });
    const live = world().listed().put(put(0)).flush();
    expect(affinity(live)).toEqual([0, 0]);
    expect(affinity(live.put(put(600)).flush())).toEqual([600, 600]);
    expect(affinity(live.put(put(5)).flush())).toEqual([5, 5]);
    expect(affinity(live.put(put(0)).flush())).toEqual([0, 0]);
  });
});

test('14: a Service can gain and lose a family', () => {
  const keys = (of: World): string[] => [...of.desired.all()].map(([key]) => key);
  const both = { IPv4: '10.96.0.10', IPv6: 'fd00:96::a' };
  const dual = world().listed().put(serviceRow()).flush();
  expect(keys(dual.put(serviceRow({ clusterIPs: both })).flush())).toEqual([web, 'default/web:/TCP/IPv6']);
  expect(keys(dual.put(serviceRow({ clusterIPs: { IPv6: both.IPv6 } })).flush())).toEqual(['default/web:/TCP/IPv6']);
});

test('15: an event that changes no desired row writes nothing', () => {
  const still = world()
    .listed()
    .put(serviceRow(), sliceRow({ endpoints: [endpointRow('10.0.0.1')] }))
    .flush();
  const before = [still.desired.revision, still.host.revision, still.ranges.revision];
  still.put(serviceRow({ healthCheckNodePort: 32_000 }), sliceRow({ endpoints: [endpointRow('10.0.0.1', { nodeName: 'far' })] })).flush();
  expect([still.desired.revision, still.host.revision, still.ranges.revision]).toEqual(before);
});
