// SPDX-License-Identifier: Apache-2.0
// Real kernel maps: the contract of LbMaps, batches, and memory mappings. The layouts of the codecs are compared with the BTF of every
// compiled object, which bpftool reads independently of Sluice.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import { BpfMap, duplicate } from '../../daemon/kernel/map.ts';
import { BpfObject } from '../../daemon/kernel/object.ts';
import { encoded, decoded, type Codec } from '../../daemon/maps/codec.ts';
import { BackendState as GeneratedState, codecs, DropReason, HostFlags, lb4KeyCodec, lb6KeyCodec } from '../../daemon/maps/gen/layouts.ts';
import { kernelMaps } from '../../daemon/maps/kernel-maps.ts';
import { BackendState, HostFlag } from '../../daemon/maps/types.ts';
import { contractSizes, testLbMaps } from '../support/maps-contract.ts';
import { objectsPath } from './fixture.ts';
import { serviceValue } from '../support/builders.ts';

const objects = ['tc_pod', 'tc_uplink', 'tc_l3', 'sock', 'layout'];
const open: { close(): void }[] = [];
const closeAll = (): void => open.splice(0).forEach((each) => each.close());
afterAll(closeAll);

/** New maps of an object without programs. */
function freshMaps(sizes: Record<string, number>): (name: string) => BpfMap {
  const object = new BpfObject(join(objectsPath, 'layout.bpf.o'));
  object.load({ sizes });
  open.push(object);
  return (name) => {
    // The object and the BpfMap each close their own descriptor, so the descriptor is duplicated.
    const map = new BpfMap(duplicate(object.mapFd(name)));
    open.push(map);
    return map;
  };
}

afterEach(closeAll);

testLbMaps('kernel', () =>
  kernelMaps(
    freshMaps({
      ...{ lb4_frontends: contractSizes.frontends, lb6_frontends: contractSizes.frontends, lb_services: contractSizes.services },
      ...{ lb_slots: contractSizes.slots / 16, lb4_backends: contractSizes.backends, lb6_backends: contractSizes.backends },
    }),
  ),
);

describe('a hash map', () => {
  test('entries() reads 20,000 keys, which need more than one batch', () => {
    const map = freshMaps({ ct4: 1024, lb4_frontends: 20_000 })('lb4_frontends');
    const key = new Uint8Array(8);
    const value = new Uint8Array(8);
    for (let i = 0; i < 20_000; i += 1) {
      new DataView(key.buffer).setUint32(0, i);
      new DataView(value.buffer).setUint32(0, i + 1, true);
      map.set(key, value);
    }
    const read = [...map.entries()].map(([, bytes]) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, true));
    expect(read).toHaveLength(20_000);
    expect(read.reduce((total, each) => total + each, 0)).toBe((20_000 * 20_001) / 2);
  });

  test('set() on a full map throws E2BIG and changes nothing', () => {
    const map = freshMaps({ lb4_frontends: 1 })('lb4_frontends');
    map.set(Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0), new Uint8Array(8));
    expect(() => map.set(Uint8Array.of(2, 0, 0, 0, 0, 0, 0, 0), new Uint8Array(8))).toThrow(expect.objectContaining({ code: 'E2BIG' }));
    expect([...map.entries()]).toHaveLength(1);
  });
});

describe('a mapped array', () => {
  const mapped = (): string[] =>
    readFileSync('/proc/self/maps', 'utf8')
      .split('\n')
      .filter((line) => line.includes('bpf-map'));
  const writable = (): number => mapped().filter((line) => line.includes('rw-s')).length;

  test('the writable memory mapping of an array is created only when a write changes a value', () => {
    const maps = kernelMaps(freshMaps({}));
    expect(maps.services.get(1)).toEqual(serviceValue({ base: 0, count: 0 }));
    maps.services.set(1, serviceValue({ base: 0, count: 0 }));
    expect(maps.slots.read(0, 100)).toEqual(Array.from({ length: 100 }, () => 0));
    expect(writable()).toBe(0);
    maps.services.set(1, serviceValue({ base: 16, count: 3 }));
    expect(writable()).toBe(1);
  });

  test('rows() maps an array only while it reads, unless the array is already mapped', () => {
    const maps = kernelMaps(freshMaps({}));
    expect([maps.services.rows(), mapped().length]).toEqual([[], 0]);
    maps.services.set(3, serviceValue({ base: 16, count: 3 }));
    expect([maps.services.rows(), mapped().length]).toEqual([[[3, serviceValue({ base: 16, count: 3 })]], 1]);
    expect(maps.services.get(3)).toEqual(serviceValue({ base: 16, count: 3 }));
  });

  test('map lookups return the values that were written through the memory mapping of an array', () => {
    const opened = freshMaps({});
    kernelMaps(opened).services.set(7, serviceValue({ base: 5, count: 6 }));
    expect(opened('lb_services').get(Uint8Array.of(7, 0, 0, 0))).toEqual(Uint8Array.of(5, 0, 0, 0, 6, ...new Uint8Array(27)));
  });
});

describe('layouts', () => {
  interface Btf {
    readonly types: readonly {
      kind: string;
      name: string;
      size?: number;
      members?: { name: string; bits_offset: number }[];
      values?: { name: string; val: number }[];
    }[];
  }
  const btf = (name: string): Btf =>
    JSON.parse(
      execFileSync('bpftool', ['-j', 'btf', 'dump', 'file', join(objectsPath, `${name}.bpf.o`)], { encoding: 'utf8', maxBuffer: 1 << 26 }),
    ) as Btf;

  test.for(objects)('codecs have the sizes and offsets of the structs in %s', (name) => {
    const structs = new Map(
      btf(name)
        .types.filter((type) => type.kind === 'STRUCT')
        .map((type) => [type.name, type]),
    );
    for (const codec of codecs) {
      const struct = structs.get(codec.name);
      if (struct === undefined) continue;
      expect({ name: codec.name, size: codec.size }).toEqual({ name: struct.name, size: struct.size });
      expect(codec.offsets).toEqual(Object.fromEntries((struct.members ?? []).map((member) => [member.name, member.bits_offset / 8])));
    }
    // Every object defines all maps, so its BTF has the structs of all keys and values.
    expect(codecs.filter((codec) => structs.has(codec.name)).length).toBeGreaterThan(15);
  });

  test('every object defines the same maps, with names that the kernel does not truncate', () => {
    const [first, ...others] = objects.map((name) => {
      const object = new BpfObject(join(objectsPath, `${name}.bpf.o`));
      open.push(object);
      for (const text of [...object.maps().map((map) => map.name), ...object.programNames()]) expect(text.length).toBeLessThanOrEqual(15);
      // libbpf returns the maps of an object in the order of their first use, so they are sorted.
      return object
        .maps()
        .filter((map) => map.name !== 'layout.bss')
        .toSorted((a, b) => a.name.localeCompare(b.name));
    });
    for (const other of others) expect(other).toEqual(first);
  });

  test('constants that are defined in C and in TypeScript are equal', () => {
    const named = (prefix: string, constants: Record<string, number>): object =>
      Object.fromEntries(
        Object.entries(constants).map(([name, value]) => [`${prefix}_${name.replace(/[A-Z]/g, '_$&').toUpperCase()}`, value]),
      );
    expect(named('BACKEND', BackendState)).toEqual(GeneratedState);
    expect(named('HOST', HostFlag)).toEqual(HostFlags);
    expect(Object.values(DropReason)).toEqual(Object.values(DropReason).map((_, i) => i));
  });

  test.for([
    { codec: lb4KeyCodec as Codec<never>, size: 8 },
    { codec: lb6KeyCodec as Codec<never>, size: 20 },
  ])('decoding and encoding any bytes of $codec.name returns the same bytes', ({ codec, size }) => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: size, maxLength: size }), (bytes) => {
        // The last byte of a key is padding. Encoding sets it to zero.
        const row = bytes.with(-1, 0);
        expect(encoded(codec, decoded(codec, bytes))).toEqual(row);
      }),
    );
  });
});
