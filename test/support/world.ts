// SPDX-License-Identifier: Apache-2.0
// A control plane in one object, for tests: intent tables -> controller -> desired table -> reconciler -> LbMaps, wired as
// main.ts wires it but on a fake clock and a manual scheduler, so that everything is synchronous. restart() is a kill -9:
// only the maps survive.
import { HostController } from '../../daemon/services/controller/host-controller.ts';
import { ServiceController } from '../../daemon/services/controller/service-controller.ts';
import type { DesiredPort, HostRow } from '../../daemon/model/frontend.ts';
import type { HostSettings, LocalAddress } from '../../daemon/model/host.ts';
import type { EndpointSlice } from '../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../daemon/model/node.ts';
import { objectKey } from '../../daemon/model/object-key.ts';
import type { Service } from '../../daemon/model/service.ts';
import type { ServiceCIDR } from '../../daemon/model/service-cidr.ts';
import { type Kind, kindNames, type RowOf } from '../../daemon/source/kinds.ts';
import { type SourceTables, sourceTables, tableOf } from '../../daemon/source/tables.ts';
import { Table } from '../../daemon/table/table.ts';
import { LbOperations } from '../../daemon/services/apply/lb-operations.ts';
import { Reconciler } from '../../daemon/table/reconciler.ts';
import type { LbMaps } from '../../daemon/maps/types.ts';
import { hostSettings } from './builders.ts';
import { FakeClock, ManualScheduler, seededRandom } from './fake-clock.ts';

/** What others change in the maps is put back within this time. */
export const MEND_EVERY_MS = 10_000;

export const thisNode = 'node-1';

export interface WorldOptions {
  readonly maps: LbMaps;
  readonly batchSize?: number;
  readonly settings?: Partial<HostSettings>;
}

/** Rows of each kind by key. */
export type Objects = { readonly [K in Kind]: ReadonlyMap<string, RowOf<K>> };

export class World {
  readonly maps: LbMaps;
  readonly clock = new FakeClock();
  /** "failed KEY", "recovered KEY": what the log would say, of every life. */
  readonly log: string[] = [];
  readonly #options: WorldOptions;
  #life: Life;
  #isComplete = true;

  constructor(options: WorldOptions) {
    this.maps = options.maps;
    this.#options = options;
    this.#life = this.#boot();
  }

  get tables(): SourceTables {
    return this.#life.tables;
  }

  get services(): Table<string, Service> {
    return this.tables.services;
  }

  get slices(): Table<string, EndpointSlice> {
    return this.tables.slices;
  }

  get nodes(): Table<string, Node> {
    return this.tables.nodes;
  }

  get serviceCIDRs(): Table<string, ServiceCIDR> {
    return this.tables.serviceCIDRs;
  }

  get localAddresses(): Table<string, LocalAddress> {
    return this.tables.localAddresses;
  }

  get host(): Table<string, HostRow> {
    return this.#life.host;
  }

  get desired(): Table<string, DesiredPort> {
    return this.#life.desired;
  }

  get controller(): ServiceController {
    return this.#life.controller;
  }

  get operations(): LbOperations {
    return this.#life.operations;
  }

  get reconciler(): Reconciler<string, DesiredPort> {
    return this.#life.reconciler;
  }

  put(...objects: (Service | EndpointSlice | Node | ServiceCIDR)[]): this {
    for (const object of objects) {
      if ('clusterIPs' in object) this.services.upsert(objectKey(object), object);
      else if ('endpoints' in object) this.slices.upsert(objectKey(object), object);
      else if ('podCIDRs' in object) this.nodes.upsert(object.name, object);
      else this.serviceCIDRs.upsert(object.name, object);
    }
    return this;
  }

  putAll(objects: Objects): this {
    for (const kind of kindNames) this.#putRows(kind, objects[kind]);
    return this;
  }

  objects(): Objects {
    const entries = kindNames.map((kind) => [kind, new Map<string, unknown>(tableOf(this.tables, kind).all())]);
    return Object.fromEntries(entries) as Objects;
  }

  #putRows<K extends Kind>(kind: K, rows: Objects[K]): void {
    for (const [key, row] of rows) tableOf(this.tables, kind).upsert(key, row);
  }

  /** The source has finished its first list. */
  listed(): this {
    this.#life.markListed();
    return this.flush();
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Whether every source is complete: prune waits for it. */
  complete(isComplete: boolean): this {
    this.#isComplete = isComplete;
    if (isComplete) this.reconciler.requestPrune();
    return this;
  }

  /** Lets everything happen that needs no time. */
  flush(): this {
    this.#life.scheduler.flush();
    return this;
  }

  advance(ms: number): this {
    const end = this.clock.now() + ms;
    this.flush();
    for (let next = this.clock.nextTimer; next !== undefined && next <= end; next = this.clock.nextTimer) {
      this.clock.advance(Math.max(0, next - this.clock.now()));
      this.flush();
    }
    this.clock.advance(end - this.clock.now());
    return this.flush();
  }

  /** Advances until nothing failed, waits or is left to prune. Throws when that does not come in 100 rounds of retries. */
  settle(): this {
    this.flush();
    for (let round = 0; !this.reconciler.isClean; round += 1) {
      const failed = [...this.reconciler.failed()].map(([key, status]) => `${key}: ${status.error?.message}`);
      if (round === 100) throw new Error(`does not settle: ${failed.join('; ')}`);
      this.advance(60_000);
    }
    return this;
  }

  /** Kills the daemon and starts another one over the same maps, with empty tables. */
  restart(): this {
    this.#life.stop();
    this.#life = this.#boot();
    return this;
  }

  #boot(): Life {
    const scheduler = new ManualScheduler();
    const tables = sourceTables(scheduler.schedule);
    const desired = new Table<string, DesiredPort>('desired', scheduler.schedule);
    const host = new Table<string, HostRow>('host', scheduler.schedule);
    const marks = Object.values(tables).map((table) => table.registerSource('test'));
    const own = { nodeName: thisNode, settings: hostSettings(this.#options.settings) };
    const controller = new ServiceController({ ...tables, desired, ...own });
    const hostController = new HostController({ ...tables, host, ...own });
    const operations = new LbOperations({ maps: this.maps, clock: this.clock });
    const reconciler = new Reconciler<string, DesiredPort>({
      ...{ table: desired, operations, clock: this.clock, schedule: scheduler.schedule },
      log: {
        rowFailed: (key) => this.log.push(`failed ${key}`),
        rowRecovered: (key) => this.log.push(`recovered ${key}`),
        stepFailed: (what) => this.log.push(`failed ${what}`),
        stepRecovered: (what) => this.log.push(`recovered ${what}`),
        mended: (sentence) => this.log.push(`mended ${sentence}`),
      },
      mayPrune: () => this.#isComplete,
      random: seededRandom(1),
      mendEveryMs: MEND_EVERY_MS,
      ...(this.#options.batchSize === undefined ? {} : { batchSize: this.#options.batchSize }),
    });
    hostController.start();
    controller.start();
    reconciler.start();
    const markListed = (): void => {
      for (const mark of marks) mark();
    };
    const stop = (): void => {
      hostController.stop();
      controller.stop();
      reconciler.stop();
    };
    return { scheduler, tables, host, desired, controller, operations, reconciler, markListed, stop };
  }
}

interface Life {
  readonly scheduler: ManualScheduler;
  readonly tables: SourceTables;
  readonly host: Table<string, HostRow>;
  readonly desired: Table<string, DesiredPort>;
  readonly controller: ServiceController;
  readonly operations: LbOperations;
  readonly reconciler: Reconciler<string, DesiredPort>;
  readonly markListed: () => void;
  readonly stop: () => void;
}
