// SPDX-License-Identifier: Apache-2.0
// Random sequences of changes and faults of an API server: thousands of steps on a fake clock. Whenever the server has had no
// fault for CALM_MS, the tables match its objects. A row is never deleted unless the server has deleted its object.
import { expect, onTestFinished, test } from 'vitest';
import type { Fault } from '../../support/double/api-server.ts';
import { type Kind, kinds } from '../../../daemon/source/kinds.ts';
import { keyOf, type RawObject, selectorOf } from '../../support/double/objects.ts';
import { internal, tooMany, unavailable } from '../../support/double/statuses.ts';
import { seededRandom } from '../../support/fake-clock.ts';
import { KubernetesWorld, node, rowOf, selectorsOf, service, serviceCIDR, slice } from './kubernetes-fixture.ts';

const STEPS = 500;
/** Longer than every back-off and every time-out. */
const CALM_MS = 20_000;

const foreign = { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } };

const isInitialEnd = (line: string): boolean => line.includes('initial-events-end');

class RandomHistory {
  readonly world: KubernetesWorld;
  readonly random: () => number;
  /** Names of the steps so far. */
  readonly steps: string[] = [];
  /** For each object, the number of its removals minus the number of deletions of its row. See #put() for what counts as a removal. */
  readonly #removals = new Map<string, number>();
  #fresh = 0;

  constructor(seed: number) {
    this.world = new KubernetesWorld(seed);
    this.random = seededRandom(seed);
    const { server } = this.world;
    server.hasStreamingLists = this.random() < 0.5;
    server.sendsExpiredAs = this.#pick(['status', 'event']);
    server.pageItems = this.#pick([2, 500]);
    server.pieceBytes = this.#pick([3, 50, 16_384]);
    for (let i = 0; i < 5; i += 1) server.put(service(`stable-${i}`, this.#address()));
    this.world.onDeleted = (kind, key) => this.#deleted(`${kind} ${key}`);
  }

  /** Performs one random step. */
  async step(): Promise<void> {
    const { random } = this;
    const groups = [this.#changes(), this.#changes(), this.#changes(), this.#server(), this.#bursts(), this.#bursts(), this.#faults()];
    const choices = random() < 0.3 ? this.#pick([this.#recovery(), this.#recovery(), this.#time()]) : this.#pick(groups);
    const name = this.#pick(Object.keys(choices));
    this.steps.push(name);
    await choices[name]?.();
    if (this.random() < 0.5) await this.world.turn();
  }

  #changes(): Record<string, () => unknown> {
    const any = `s${this.#below(8)}`;
    const deletable = [
      ['Service', 's', 8],
      ['Service', 's', 8],
      ['EndpointSlice', 'e', 6],
      ['ServiceCIDR', 'c', 2],
      ['Node', 'node-', 3],
    ] as const;
    return {
      stable: () => this.#put(service(`stable-${this.#below(5)}`, this.#address())),
      service: () => this.#put(service(any, this.#address())),
      slice: () =>
        this.#put(
          slice(
            `e${this.#below(6)}`,
            'web',
            Array.from({ length: this.#below(4) }, () => this.#address()),
          ),
        ),
      node: () => this.#put(node(this.#pick(['node-1', 'node-2']), this.#pick(['a', 'b', 'c']))),
      cidr: () => this.#put(serviceCIDR(`c${this.#below(2)}`, `10.${this.#below(200)}.0.0/16`)),
      delete: () => this.#delete(this.#pick(deletable)),
      relabel: () => this.#put(service(any, this.#address(), foreign)),
      external: () => this.#put({ ...service(any), spec: { type: 'ExternalName', externalName: 'example.org' } }),
      invalid: () => this.#put({ ...service(any), spec: { clusterIP: 'invalid', ports: [] } }),
    };
  }

  #server(): Record<string, () => unknown> {
    const { server, source } = this.world;
    return {
      compact: () => server.store.compact(),
      bookmark: () => server.bookmark(),
      cut: () => server.cut(),
      end: () => server.end(),
      'a truncated line': () => (server.sendToWatches('{"type":"MODIF'), server.cut()),
      'malformed JSON': () => server.sendToWatches('}{\n'),
      hold: () => server.holdEvents(),
      rescan: () => source.rescan(),
    };
  }

  #bursts(): Record<string, () => unknown> {
    const { server, source } = this.world;
    return {
      'a burst in random order': () => (server.holdEvents(), this.#burst(), server.releaseEvents((lines) => this.#arranged(lines))),
      'a burst of which events are lost': () => {
        server.holdEvents();
        this.#burst();
        server.releaseEvents((lines) => lines.slice(0, this.#below(lines.length + 1)));
        server.cut();
      },
      'a burst during a list': async () => {
        server.holdEvents();
        await source.rescan();
        await this.world.turn();
        this.#burst();
        server.releaseEventsLate();
      },
      'a burst between pages': async () => {
        server.failNext('hang', ({ query }) => query.has('continue'));
        await source.rescan();
        await this.world.turn();
        this.#burst();
        server.serve();
      },
    };
  }

  #faults(): Record<string, () => unknown> {
    const { server } = this.world;
    return {
      fail: () => server.fail(this.#fault()),
      'fail once': () => server.failNext(this.#fault()),
      'fail twice': () => (server.failNext(this.#fault()), server.failNext(this.#fault())),
      forbid: () => server.forbidden.add(`${this.#pick(['list', 'watch'])} ${this.#pick(['services', 'endpointslices'])}`),
      'a refused token': () => (server.acceptsToken = false),
    };
  }

  #recovery(): Record<string, () => unknown> {
    return {
      release: () => this.world.server.releaseEvents(),
      'end of faults': () => this.#endFaults(),
      'end of faults again': () => this.#endFaults(),
    };
  }

  #endFaults(): void {
    const { server } = this.world;
    server.serve();
    server.forbidden.clear();
    server.acceptsToken = true;
  }

  #time(): Record<string, () => unknown> {
    return {
      'a short time': () => this.world.advance(this.#below(300)),
      'a longer time': () => this.world.advance(this.#below(15_000)),
      nothing: () => this.world.turn(),
    };
  }

  #burst(): void {
    for (let left = 1 + this.#below(8); left > 0; left -= 1) {
      const changes = this.#changes();
      changes[this.#pick(Object.keys(changes))]?.();
    }
  }

  /** Ends all faults, waits CALM_MS and compares the tables with the objects. */
  async calm(): Promise<void> {
    const { server } = this.world;
    this.#endFaults();
    await this.world.advance(CALM_MS);
    this.steps.push('calm');
    const invalid = server.store.all('Service').filter((object) => this.#stateOf(object) === 'invalid');
    const isExcused = (id: string): boolean => invalid.some((object) => id === `Service ${keyOf(object)}`);
    this.world.expectEqual(isExcused);
    const isIncomplete = invalid.some((object) => this.world.tables.services.get(keyOf(object)) === undefined);
    expect([this.world.messages.length, this.world.source.isComplete]).toEqual([invalid.length, !isIncomplete]);
  }

  #put(object: RawObject): void {
    const before = this.world.server.store.get(object.kind, keyOf(object));
    const was = this.#stateOf(before);
    const is = this.#stateOf(object);
    // An invalid object keeps its last row. A later version without a row deletes the row, so this version counts as a removal.
    if (was !== 'none' && is === 'none') this.#removed(object.kind, keyOf(object));
    this.world.server.put(object);
  }

  #delete([kind, letter, count]: readonly [Kind, string, number]): void {
    const key = `${kinds[kind].isNamespaced ? 'default/' : ''}${letter}${this.#below(count)}`;
    this.#removed(kind, key);
    this.world.server.store.delete(kind, key);
  }

  #stateOf(object: RawObject | undefined): 'row' | 'none' | 'invalid' {
    if (object === undefined) return 'none';
    const { labelSelector = '', fieldSelector = '' } = selectorsOf(object.kind);
    if (!selectorOf(labelSelector, fieldSelector)(object)) return 'none';
    if (rowOf(object).length > 0) return 'row';
    return object['spec'] !== undefined && JSON.stringify(object['spec']).includes('"invalid"') ? 'invalid' : 'none';
  }

  #removed(kind: Kind, key: string): void {
    const id = `${kind} ${key}`;
    this.#removals.set(id, (this.#removals.get(id) ?? 0) + 1);
  }

  /** Records the deletion of a row. Throws if there are more deletions of the row than removals of its object. */
  #deleted(id: string): void {
    const left = (this.#removals.get(id) ?? 0) - 1;
    if (left < 0) throw new Error(`${id} was deleted, but its object exists`);
    this.#removals.set(id, left);
  }

  /** Changes the order of the lines. The order of initial events stays, because the bookmark that ends them must be last. */
  #arranged(lines: readonly string[]): readonly string[] {
    if (lines.some(isInitialEnd)) return lines;
    const shuffled = lines.map((line) => ({ line, at: this.random() })).toSorted((a, b) => a.at - b.at);
    return this.#pick([lines.flatMap((line) => [line, line]), [...lines, ...lines], lines.toReversed(), shuffled.map(({ line }) => line)]);
  }

  #fault(): Fault {
    return this.#pick<Fault>([
      ...(['refuse', 'hang', internal, unavailable(), unavailable(1), tooMany(), tooMany(3)] as const),
      ...[{ cutAfter: this.#below(2000) }, { stallAfter: this.#below(2000) }, { ...internal, stallAfter: this.#below(50) }],
      ...[{ body: '' }, { body: '}{\n' }, { body: 'null\n' }, { body: '{"items":[],"metadata":{}}' }],
      { code: 410, reason: 'Expired', message: 'too old resource version' },
    ]);
  }

  #address(): string {
    this.#fresh += 1;
    return `10.1.${(this.#fresh >> 8) & 255}.${this.#fresh & 255}`;
  }

  #below(limit: number): number {
    return Math.floor(this.random() * limit);
  }

  #pick<T>(from: readonly T[]): T {
    const picked = from[this.#below(from.length)];
    if (picked === undefined) throw new Error('nothing to pick from');
    return picked;
  }
}

test.for(Array.from({ length: 12 }, (_, i) => i + 1))(
  'the tables match the objects after random changes and faults (seed %i)',
  async (seed) => {
    const history = new RandomHistory(seed);
    onTestFinished(() => history.world.source.stop());
    await history.world.start();
    try {
      for (let step = 1; step <= STEPS; step += 1) {
        await history.step();
        if (step % 25 === 0) await history.calm();
      }
    } catch (error) {
      throw new Error(`seed ${seed}, steps: ${history.steps.slice(-60).join(', ')}`, { cause: error });
    }
    expect(history.world.services).toEqual(expect.arrayContaining([0, 1, 2, 3, 4].map((i) => `default/stable-${i}`)));
  },
);
