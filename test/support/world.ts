// SPDX-License-Identifier: Apache-2.0
// A control plane in one object, for tests: tables of API objects, controllers, desired tables, reconcilers and LbMaps,
// connected as in the daemon, but on a fake clock and a manual scheduler, so that everything is synchronous. restart()
// simulates kill -9: it must keep nothing but the maps.
import { HostController } from '../../daemon/services/controller/host-controller.ts';
import { ServiceController } from '../../daemon/services/controller/service-controller.ts';
import type { ApiServerAddress } from '../../daemon/model/api-server.ts';
import type { DesiredHost, DesiredPort, DesiredRange } from '../../daemon/model/frontend.ts';
import type { HostSettings, LocalAddress } from '../../daemon/model/host.ts';
import type { EndpointSlice } from '../../daemon/model/endpoint-slice.ts';
import type { Node } from '../../daemon/model/node.ts';
import { objectKey } from '../../daemon/model/object-key.ts';
import type { Service } from '../../daemon/model/service.ts';
import type { ServiceCIDR } from '../../daemon/model/service-cidr.ts';
import { type Kind, kindNames, type RowOf } from '../../daemon/source/kinds.ts';
import { type SourceTables, sourceTables, tableOf } from '../../daemon/source/tables.ts';
import { Table } from '../../daemon/table/table.ts';
import { AddressSetOperations } from '../../daemon/services/apply/address-set-operations.ts';
import { CaptureOperations } from '../../daemon/services/apply/capture-operations.ts';
import { HostOperations } from '../../daemon/services/apply/host-operations.ts';
import { LbOperations } from '../../daemon/services/apply/lb-operations.ts';
import { Reconciler } from '../../daemon/table/reconciler.ts';
import type { LbMaps } from '../../daemon/maps/types.ts';
import type { ReconcileLog } from '../../daemon/table/status.ts';
import { hostSettings } from './builders.ts';
import { countedPace, FakeClock, ManualScheduler, seededRandom } from './fake-clock.ts';

/** Drift in the maps is repaired within this time. */
export const REPAIR_EVERY_MS = 10_000;

export const thisNode = 'node-1';

export interface WorldOptions {
  readonly maps: LbMaps;
  readonly batchSize?: number;
  /** Steps after which a controller pauses. Default: it does not pause. */
  readonly stepsPerSlice?: number;
  readonly settings?: Partial<HostSettings>;
}

/** Rows of each kind by key. */
export type Objects = { readonly [K in Kind]: ReadonlyMap<string, RowOf<K>> };

export class World {
  readonly maps: LbMaps;
  readonly clock = new FakeClock();
  /** Log entries, kept over restarts: "failed KEY", "recovered KEY", "repaired MESSAGE". */
  readonly log: string[] = [];
  readonly #options: WorldOptions;
  #running: ControlPlane;
  #isComplete = true;

  constructor(options: WorldOptions) {
    this.maps = options.maps;
    this.#options = options;
    this.#running = this.#start();
  }

  get tables(): SourceTables {
    return this.#running.tables;
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

  get host(): Table<string, DesiredHost> {
    return this.#running.host;
  }

  get ranges(): Table<string, DesiredRange> {
    return this.#running.ranges;
  }

  get desired(): Table<string, DesiredPort> {
    return this.#running.desired;
  }

  get controller(): ServiceController {
    return this.#running.controller;
  }

  get operations(): LbOperations {
    return this.#running.operations;
  }

  /** All reconcilers, including that of Service ports. */
  get reconcilers(): readonly Loop[] {
    return this.#running.reconcilers;
  }

  get reconciler(): Reconciler<string, DesiredPort> {
    return this.#running.reconciler;
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

  /** The rows of a kind by key. */
  rows<K extends Kind>(kind: K): Iterable<readonly [string, RowOf<K>]> {
    return tableOf(this.tables, kind).all();
  }

  #putRows<K extends Kind>(kind: K, rows: Objects[K]): void {
    for (const [key, row] of rows) tableOf(this.tables, kind).upsert(key, row);
  }

  /** Marks the first list of every source as complete. */
  listed(): this {
    this.#running.markListed();
    return this.flush();
  }

  get isComplete(): boolean {
    return this.#isComplete;
  }

  /** Sets whether every source is complete. The prune starts only when every source is complete. */
  complete(isComplete: boolean): this {
    this.#isComplete = isComplete;
    if (isComplete) for (const loop of this.#running.reconcilers) loop.requestPrune();
    return this;
  }

  /** Runs everything that is scheduled, without advancing the time. */
  flush(): this {
    this.#running.scheduler.flush();
    return this;
  }

  /** Advances the clock and runs everything that becomes due. */
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

  /** Advances until no row is failed or waiting and the prune is complete. Throws after 100 rounds of retries. */
  settle(): this {
    this.flush();
    for (let round = 0; !this.#running.reconcilers.every((loop) => loop.isClean); round += 1) {
      const failed = this.#running.reconcilers
        .flatMap((loop) => [...loop.failed()])
        .map(([key, status]) => `${key}: ${status.error?.message}`);
      if (round === 100) throw new Error(`the world does not settle: ${failed.join('; ')}`);
      this.advance(60_000);
    }
    return this;
  }

  /** Stops the control plane and starts a new one on the same maps, with empty tables. */
  restart(): this {
    this.#running.stop();
    this.#running = this.#start();
    return this;
  }

  #start(): ControlPlane {
    const scheduler = new ManualScheduler();
    const tables = sourceTables(scheduler.schedule);
    const desired = new Table<string, DesiredPort>('desired', scheduler.schedule);
    const host = new Table<string, DesiredHost>('host', scheduler.schedule);
    const ranges = new Table<string, DesiredRange>('address-sets', scheduler.schedule);
    const marks = Object.values(tables).map((table) => table.registerSource('test'));
    const { stepsPerSlice } = this.#options;
    const pace = stepsPerSlice === undefined ? {} : { pace: countedPace(scheduler, stepsPerSlice) };
    const own = { nodeName: thisNode, settings: hostSettings(this.#options.settings), ...pace };
    const controller = new ServiceController({ ...tables, desired, ...own });
    const hostController = new HostController({ ...tables, host, ranges, ...own });
    const operations = new LbOperations({ maps: this.maps, clock: this.clock });
    const common = {
      ...{ clock: this.clock, schedule: scheduler.schedule },
      log: {
        rowFailed: (key) => this.log.push(`failed ${key}`),
        rowRecovered: (key) => this.log.push(`recovered ${key}`),
        stepFailed: (what) => this.log.push(`failed ${what}`),
        stepRecovered: (what) => this.log.push(`recovered ${what}`),
        repaired: (message) => this.log.push(`repaired ${message}`),
      } satisfies ReconcileLog<string>,
      mayPrune: () => this.#isComplete,
      random: seededRandom(1),
      repairEveryMs: REPAIR_EVERY_MS,
      ...(this.#options.batchSize === undefined ? {} : { batchSize: this.#options.batchSize }),
    };
    const rangeOperations = new AddressSetOperations(this.maps, ranges);
    const captures = new CaptureOperations({
      ...{ ports: operations, ranges: rangeOperations },
      onWithdrawn: (what) => this.log.push(`withdrawn ${what}`),
    });
    const hostOperations = new HostOperations(this.maps, { netnsCookie: 1n, now: () => 0n });
    const reconciler = new Reconciler<string, DesiredPort>({ ...common, table: desired, operations });
    const reconcilers = [
      new Reconciler<string, DesiredRange>({ ...common, table: ranges, operations: rangeOperations }),
      new Reconciler<string, DesiredHost>({ ...common, table: host, operations: hostOperations }),
      reconciler,
      new Reconciler<string, ApiServerAddress>({ ...common, table: tables.apiServers, operations: captures }),
    ];
    hostController.start();
    controller.start();
    for (const each of reconcilers) each.start();
    const markListed = (): void => {
      for (const mark of marks) mark();
    };
    const stop = (): void => {
      hostController.stop();
      controller.stop();
      for (const each of reconcilers) each.stop();
    };
    return { scheduler, tables, host, ranges, desired, controller, operations, reconciler, reconcilers, markListed, stop };
  }
}

type Loop = Pick<Reconciler<string, unknown>, 'start' | 'stop' | 'isClean' | 'failed' | 'requestPrune'>;

/** One run of the control plane, between two restarts. */
interface ControlPlane {
  readonly scheduler: ManualScheduler;
  readonly tables: SourceTables;
  readonly host: Table<string, DesiredHost>;
  readonly ranges: Table<string, DesiredRange>;
  readonly desired: Table<string, DesiredPort>;
  readonly controller: ServiceController;
  readonly operations: LbOperations;
  readonly reconciler: Reconciler<string, DesiredPort>;
  /** All loops, including `reconciler`. */
  readonly reconcilers: readonly Loop[];
  readonly markListed: () => void;
  readonly stop: () => void;
}
