// SPDX-License-Identifier: Apache-2.0
// Paths, RBAC names and tables, which are derived from the registry of object kinds, and the writing of rows.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { isKnownKind, kindNames, kinds } from '../../../daemon/source/kinds.ts';
import { pathOf, resourcesOf } from '../../../daemon/source/kubernetes/resources.ts';
import { sourceTables, tableOf, writeRow } from '../../../daemon/source/tables.ts';
import { serviceRow } from '../../support/builders.ts';
import { oneOfEach } from './kubernetes-fixture.ts';

describe('resources', () => {
  test.for([
    { apiVersion: 'v1', plural: 'services', want: '/api/v1/services' },
    { apiVersion: 'discovery.k8s.io/v1', plural: 'endpointslices', want: '/apis/discovery.k8s.io/v1/endpointslices' },
  ])('$plural of $apiVersion have the path $want', ({ apiVersion, plural, want }) => {
    expect(pathOf(apiVersion, plural)).toBe(want);
  });

  test('each kind has one resource, whose name contains the API group', () => {
    const resources = resourcesOf('node-a');
    expect(resources.map(({ kind }) => kind)).toEqual(kindNames);
    expect(resources.find(({ kind }) => kind === 'Service')).toMatchObject({ name: 'services' });
    expect(resources.find(({ kind }) => kind === 'EndpointSlice')).toMatchObject({ name: 'endpointslices.discovery.k8s.io' });
    expect(resources.find(({ kind }) => kind === 'Node')).toMatchObject({ selectors: { fieldSelector: 'metadata.name=node-a' } });
  });
});

test('inherited properties of objects are not known kinds', () => {
  expect(['Service', 'Pod', 'constructor', 'toString'].map(isKnownKind)).toEqual([true, false, false, false]);
});

describe('tables', () => {
  test('each kind has a table under the property that the registry names; node addresses and API server addresses have one too', () => {
    const tables = sourceTables(() => undefined);
    expect(Object.keys(tables)).toEqual([...kindNames.map((kind) => kinds[kind].table), 'localAddresses', 'apiServers']);
    expect(tableOf(tables, 'EndpointSlice')).toBe(tables.slices);
    expect(new Set(Object.values(tables)).size).toBe(kindNames.length + 2);
  });

  test('a table does not change when an equal row is written; writing undefined deletes the row', () => {
    const tables = sourceTables(() => undefined);
    const key = 'default/web';
    writeRow(tables, { kind: 'Service', key, row: serviceRow() });
    const { revision } = tables.services;
    writeRow(tables, { kind: 'Service', key, row: serviceRow() });
    expect([tables.services.get(key), tables.services.revision]).toEqual([serviceRow(), revision]);
    writeRow(tables, { kind: 'Service', key, row: serviceRow({ created: 7 }) });
    expect(tables.services.get(key)?.created).toBe(7);
    writeRow(tables, { kind: 'Service', key, row: undefined });
    expect(tables.services.size).toBe(0);
  });
});

test('the source tests use an object of every kind', () => {
  expect(new Set(oneOfEach.map(({ kind }) => kind))).toEqual(new Set(kindNames));
});

describe('texts that list the kinds', () => {
  const root = join(import.meta.dirname, '../../..');
  test.for(['daemon/config/schema.ts', 'daemon/cli/plan-command.ts', 'deploy/README.md', '.github/SECURITY.md'])(
    'the lists of kinds in %s name every kind',
    (path) => {
      const text = readFileSync(join(root, path), 'utf8').replaceAll(/\s+/g, ' ');
      const lists = text.match(/\bServices?, EndpointSlices?[^.;']*/g) ?? [];
      expect(lists).not.toEqual([]);
      for (const list of lists) for (const kind of kindNames) expect(list).toMatch(new RegExp(`\\b${kind}s?\\b`));
    },
  );
});
