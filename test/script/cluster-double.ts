// SPDX-License-Identifier: Apache-2.0
// A cluster for stories: the API server double, and a Kubernetes source that writes the objects of the server to the tables of a
// World. Both use the clock of the World. The server keeps running when the daemon restarts.
import { KubernetesSource } from '../../daemon/source/kubernetes/kubernetes-source.ts';
import { type Kind, kinds } from '../../daemon/source/kinds.ts';
import { convertObject } from '../../daemon/source/objects.ts';
import { ApiServer, type Fault } from '../support/double/api-server.ts';
import { MemoryClient } from '../support/double/memory-client.ts';
import type { RawObject } from '../support/double/objects.ts';
import { internal, tooMany } from '../support/double/statuses.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { thisNode, type World } from '../support/world.ts';

const faults: Readonly<Record<string, Fault>> = { refuse: 'refuse', hang: 'hang', '429': tooMany(1), '500': internal };

export class ClusterDouble {
  readonly server: ApiServer;
  readonly #world: World;
  #source: KubernetesSource | undefined;

  constructor(world: World) {
    this.#world = world;
    this.server = new ApiServer(world.clock);
  }

  /** Starts a source that writes to the current tables of the World. */
  async start(): Promise<void> {
    const { tables, clock } = this.#world;
    this.#world.complete(false);
    this.#source = new KubernetesSource({
      ...{ client: new MemoryClient(this.server, clock), node: thisNode, clock, random: seededRandom(1) },
      ...{ tables, log: { appeared: () => undefined, resolved: () => undefined } },
      onComplete: () => this.#world.complete(true),
      ...{ address: 'double', credentials: 'none' },
    });
    await this.#source.start();
  }

  async stop(): Promise<void> {
    await this.#source?.stop();
  }

  /** Whether the object exists and has a row. */
  has(kind: Kind, key: string): boolean {
    const converted = convertObject(this.server.store.get(kind, key) ?? { kind: 'none' });
    return converted.kind !== 'unknown' && converted.row !== undefined;
  }

  /** Puts an object. Without a namespace, the object gets the namespace "default", as with kubectl. */
  put(raw: RawObject): void {
    const metadata = kinds[raw.kind].isNamespaced ? { namespace: 'default', ...raw.metadata } : raw.metadata;
    this.server.put({ ...raw, metadata });
  }

  fail(how: string): void {
    const fault = faults[how];
    if (fault === undefined) throw new Error(`unknown fault ${how}, known are ${Object.keys(faults).join(', ')}`);
    this.server.fail(fault);
  }
}
