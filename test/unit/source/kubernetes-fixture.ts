// SPDX-License-Identifier: Apache-2.0
// The Kubernetes source with the API server double, in memory and on a fake clock. The clock advances from timer to timer. All
// pending work is done before the next timer runs.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, onTestFinished } from 'vitest';
import { InvalidObjectError } from '../../../daemon/base/errors.ts';
import { type Kind, kindNames } from '../../../daemon/source/kinds.ts';
import { sourceTables, tableOf } from '../../../daemon/source/tables.ts';
import { KubernetesSource } from '../../../daemon/source/kubernetes/kubernetes-source.ts';
import { resourcesOf } from '../../../daemon/source/kubernetes/resources.ts';
import { convertObject } from '../../../daemon/source/objects.ts';
import { ApiServer } from '../../support/double/api-server.ts';
import { MemoryClient } from '../../support/double/memory-client.ts';
import { keyOf, type RawObject, selectorOf } from '../../support/double/objects.ts';
import { FakeClock, seededRandom } from '../../support/fake-clock.ts';

export const thisNode = 'node-1';

export class KubernetesWorld {
  readonly clock = new FakeClock();
  readonly server = new ApiServer(this.clock);
  readonly client = new MemoryClient(this.server, this.clock);
  readonly tables = sourceTables(setImmediate);
  /** Keys of all rows that were deleted so far, of all kinds. */
  readonly deleted: string[] = [];
  /** Called for each row that is deleted. */
  onDeleted: (kind: Kind, key: string) => void = () => undefined;
  /** "+ message" when a problem appeared, "- message" when it was resolved, "complete" when the source became complete. */
  readonly log: string[] = [];
  readonly source: KubernetesSource;

  constructor(seed = 1) {
    for (const kind of kindNames) this.#watchDeletions(kind);
    this.source = new KubernetesSource({
      ...{ client: this.client, node: thisNode, tables: this.tables, clock: this.clock, random: seededRandom(seed) },
      log: { appeared: ({ message }) => this.log.push(`+ ${message}`), resolved: ({ message }) => this.log.push(`- ${message}`) },
      onComplete: () => this.log.push('complete'),
      ...{ address: 'http://double', credentials: 'the token in /token' },
    });
  }

  #watchDeletions(kind: Kind): void {
    const table = tableOf(this.tables, kind);
    const original = table.delete.bind(table);
    table.delete = (key) => {
      if (table.get(key) !== undefined) {
        this.deleted.push(key);
        this.onDeleted(kind, key);
      }
      original(key);
    };
  }

  async start(): Promise<this> {
    await this.source.start();
    return this.turn();
  }

  /** Waits until the source has processed all data and timers that are due. */
  async turn(): Promise<this> {
    // The source reports problems one turn after it has processed an event, and calls onComplete one turn after that.
    for (let turns = 0; turns < 3; turns += 1) await nextTurn();
    return this;
  }

  async advance(ms: number): Promise<this> {
    const end = this.clock.now() + ms;
    await this.turn();
    for (let next = this.clock.nextTimer; next !== undefined && next <= end; next = this.clock.nextTimer) {
      this.clock.advance(Math.max(0, next - this.clock.now()));
      await this.turn();
    }
    this.clock.advance(end - this.clock.now());
    return this.turn();
  }

  /** Requests since the last call of this method, such as "watch services from 5". */
  requests(kind?: Kind): string[] {
    return this.server.requests.splice(0).flatMap(({ verb, collection, query }) => {
      if (kind !== undefined && collection.kind !== kind) return [];
      const continued = query.has('continue') ? ' continued' : '';
      const from =
        query.get('sendInitialEvents') === 'true'
          ? ' initially'
          : query.has('resourceVersion')
            ? ` from ${query.get('resourceVersion')}`
            : '';
      return [`${verb} ${collection.resource}${continued}${from}`];
    });
  }

  get services(): string[] {
    return [...this.tables.services.all()].map(([key]) => key).toSorted();
  }

  get messages(): string[] {
    return this.source.problems().map(({ message }) => message);
  }

  /** Sum of the revisions of all tables. */
  get revision(): number {
    return Object.values(this.tables).reduce((sum, table) => sum + table.revision, 0);
  }

  /** Expects that the tables contain exactly the rows of the objects on the server. Rows of excused objects are not compared. */
  expectEqual(excused: (id: string) => boolean = () => false): void {
    for (const kind of kindNames) {
      const isCompared = ([key]: [string, unknown]): boolean => !excused(`${kind} ${key}`);
      const want = selected(kind, this.server).flatMap((object) => rowOf(object));
      expect(Object.fromEntries([...tableOf(this.tables, kind).all()].filter(isCompared)), kind).toEqual(
        Object.fromEntries(want.filter(isCompared)),
      );
    }
  }
}

export const selectorsOf = (kind: Kind): Readonly<Record<string, string>> =>
  resourcesOf(thisNode).find((resource) => resource.kind === kind)?.selectors ?? {};

function selected(kind: Kind, server: ApiServer): RawObject[] {
  const { labelSelector = '', fieldSelector = '' } = selectorsOf(kind);
  return server.store.all(kind, selectorOf(labelSelector, fieldSelector));
}

/** Key and row of an object. Empty for an object that is invalid, of an unknown kind, or without a row. */
export function rowOf(object: RawObject): [string, unknown][] {
  try {
    const converted = convertObject(object);
    return converted.kind === 'unknown' || converted.row === undefined ? [] : [[keyOf(object), converted.row]];
  } catch (error) {
    if (error instanceof InvalidObjectError) return [];
    throw error;
  }
}

/** A started source with a double that contains these objects. */
export async function startKubernetes(objects: readonly RawObject[] = [], prepare: (world: KubernetesWorld) => void = () => undefined) {
  const world = new KubernetesWorld();
  onTestFinished(() => world.source.stop());
  world.server.put(...objects);
  prepare(world);
  return world.start();
}

export const service = (name: string, clusterIP = '10.96.0.1', extra: Partial<RawObject['metadata']> = {}): RawObject => ({
  ...{ apiVersion: 'v1', kind: 'Service', metadata: { name, namespace: 'default', creationTimestamp: '2026-01-01T00:00:00Z', ...extra } },
  spec: {
    type: 'ClusterIP',
    clusterIP,
    clusterIPs: [clusterIP],
    ipFamilies: ['IPv4'],
    ports: [{ name: 'http', port: 80, protocol: 'TCP', targetPort: 8080 }],
  },
  status: { loadBalancer: {} },
});

export const slice = (name: string, owner: string, addresses: readonly string[] = ['10.244.1.1']): RawObject => ({
  ...{ apiVersion: 'discovery.k8s.io/v1', kind: 'EndpointSlice', addressType: 'IPv4' },
  metadata: { name, namespace: 'default', labels: { 'kubernetes.io/service-name': owner } },
  ports: [{ name: 'http', port: 8080, protocol: 'TCP' }],
  endpoints: addresses.map((address) => ({
    addresses: [address],
    conditions: { ready: true, serving: true, terminating: false },
    nodeName: thisNode,
  })),
});

export const node = (name = thisNode, zone = 'a'): RawObject => ({
  ...{ apiVersion: 'v1', kind: 'Node', metadata: { name, labels: { 'topology.kubernetes.io/zone': zone } } },
  spec: { podCIDR: '10.244.1.0/24', podCIDRs: ['10.244.1.0/24'] },
  status: { addresses: [{ type: 'InternalIP', address: '192.0.2.1' }] },
});

export const serviceCIDR = (name = 'kubernetes', cidr = '10.96.0.0/16'): RawObject => ({
  ...{ apiVersion: 'networking.k8s.io/v1', kind: 'ServiceCIDR', metadata: { name } },
  spec: { cidrs: [cidr] },
});

/** One object of each kind, and a Node of another name. */
export const oneOfEach: readonly RawObject[] = [service('web'), slice('web-1', 'web'), node(), node('node-2'), serviceCIDR()];
