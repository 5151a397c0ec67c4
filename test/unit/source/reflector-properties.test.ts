// SPDX-License-Identifier: Apache-2.0
// Random lives of an API server, good and bad, thousands of steps on a fake clock. Whenever it has been well for a while the
// tables are its objects; and at no moment is anything withdrawn that it has not withdrawn.
import { expect, onTestFinished, test } from 'vitest';
import type { Fault } from '../../support/double/api-server.ts';
import { type Kind, kinds } from '../../../daemon/source/kinds.ts';
import { keyOf, type RawObject, selectorOf } from '../../support/double/objects.ts';
import { internal, tooMany, unavailable } from '../../support/double/statuses.ts';
import { seededRandom } from '../../support/fake-clock.ts';
import { KubernetesWorld, node, rowOf, selectorsOf, service, serviceCIDR, slice } from './kubernetes-fixture.ts';

const STEPS = 500;
/** Longer than any back-off and any patience with silence. */
const CALM_MS = 20_000;

const foreign = { labels: { 'service.kubernetes.io/service-proxy-name': 'other' } };

const isInitialEnd = (line: string): boolean => line.includes('initial-events-end');

class Life {
  readonly world: KubernetesWorld;
  readonly random: () => number;
  readonly trail: string[] = [];
  /** How often each object was taken away: deleted, or made none of ours. */
  readonly #removals = new Map<string, number>();
  #fresh = 0;

  constructor(seed: number) {
    this.world = new KubernetesWorld(seed);
    this.random = seededRandom(seed);
    const { server } = this.world;
    server.hasStreamingLists = this.random() < 0.5;
    server.tooOldComes = this.#pick(['as status', 'as event']);
    server.pageItems = this.#pick([2, 500]);
    server.pieceBytes = this.#pick([3, 50, 16_384]);
    for (let i = 0; i < 5; i += 1) server.put(service(`stable-${i}`, this.#address()));
    this.world.onWithdrawn = (kind, key) => this.#withdrawn(`${kind} ${key}`);
  }

  /** One random thing happens. */
  async step(): Promise<void> {
    const { random } = this;
    const kinds = [this.#changes(), this.#changes(), this.#changes(), this.#server(), this.#bursts(), this.#bursts(), this.#faults()];
    const steps = random() < 0.3 ? this.#pick([this.#recovery(), this.#recovery(), this.#time()]) : this.#pick(kinds);
    const name = this.#pick(Object.keys(steps));
    this.trail.push(name);
    await steps[name]?.();
    if (this.random() < 0.5) await this.world.turn();
  }

  #changes(): Record<string, () => unknown> {
    const any = `s${this.#below(8)}`;
    const kinds = [
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
      delete: () => this.#delete(this.#pick(kinds)),
      relabel: () => this.#put(service(any, this.#address(), foreign)),
      external: () => this.#put({ ...service(any), spec: { type: 'ExternalName', externalName: 'example.org' } }),
      broken: () => this.#put({ ...service(any), spec: { clusterIP: 'none of these', ports: [] } }),
    };
  }

  #server(): Record<string, () => unknown> {
    const { server, source } = this.world;
    return {
      compact: () => server.store.compact(),
      bookmark: () => server.bookmark(),
      cut: () => server.cut(),
      end: () => server.end(),
      'half a line': () => (server.say('{"type":"MODIF'), server.cut()),
      garbage: () => server.say('}{\n'),
      hold: () => server.hold(),
      rescan: () => source.rescan(),
    };
  }

  #bursts(): Record<string, () => unknown> {
    const { server, source } = this.world;
    return {
      'a burst in disorder': () => (server.hold(), this.#burst(), server.release((lines) => this.#arranged(lines))),
      'a burst, and half of it lost': () => {
        server.hold();
        this.#burst();
        server.release((lines) => lines.slice(0, this.#below(lines.length + 1)));
        server.cut();
      },
      'a burst during a list': async () => {
        server.hold();
        await source.rescan();
        await this.world.turn();
        this.#burst();
        server.releaseLate();
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
      'a bad token': () => (server.isTokenGood = false),
    };
  }

  #recovery(): Record<string, () => unknown> {
    return { release: () => this.world.server.release(), 'all is well': () => this.#heal(), 'all is well again': () => this.#heal() };
  }

  #heal(): void {
    const { server } = this.world;
    server.serve();
    server.forbidden.clear();
    server.isTokenGood = true;
  }

  #time(): Record<string, () => unknown> {
    return {
      'a moment': () => this.world.advance(this.#below(300)),
      'a while': () => this.world.advance(this.#below(15_000)),
      nothing: () => this.world.turn(),
    };
  }

  #burst(): void {
    for (let left = 1 + this.#below(8); left > 0; left -= 1) {
      const changes = this.#changes();
      changes[this.#pick(Object.keys(changes))]?.();
    }
  }

  /** All is well for long enough. */
  async calm(): Promise<void> {
    const { server } = this.world;
    this.#heal();
    await this.world.advance(CALM_MS);
    this.trail.push('calm');
    const broken = server.store.all('Service').filter((object) => this.#stateOf(object) === 'broken');
    const isExcused = (id: string): boolean => broken.some((object) => id === `Service ${keyOf(object)}`);
    this.world.expectEqual(isExcused);
    const hasLost = broken.some((object) => this.world.tables.services.get(keyOf(object)) === undefined);
    expect([this.world.messages.length, this.world.source.isComplete]).toEqual([broken.length, !hasLost]);
  }

  #put(object: RawObject): void {
    const before = this.world.server.store.get(object.kind, keyOf(object));
    const was = this.#stateOf(before);
    const is = this.#stateOf(object);
    // What is broken keeps its row, which goes with the next one that is none.
    if (was !== 'none' && is === 'none') this.#removed(object.kind, keyOf(object));
    this.world.server.put(object);
  }

  #delete([kind, letter, count]: readonly [Kind, string, number]): void {
    const key = `${kinds[kind].isNamespaced ? 'default/' : ''}${letter}${this.#below(count)}`;
    this.#removed(kind, key);
    this.world.server.store.delete(kind, key);
  }

  #stateOf(object: RawObject | undefined): 'row' | 'none' | 'broken' {
    if (object === undefined) return 'none';
    const { labelSelector = '', fieldSelector = '' } = selectorsOf(object.kind);
    if (!selectorOf(labelSelector, fieldSelector)(object)) return 'none';
    if (rowOf(object).length > 0) return 'row';
    return object['spec'] !== undefined && JSON.stringify(object['spec']).includes('none of these') ? 'broken' : 'none';
  }

  #removed(kind: Kind, key: string): void {
    const id = `${kind} ${key}`;
    this.#removals.set(id, (this.#removals.get(id) ?? 0) + 1);
  }

  /** Each time that we withdraw an object, the server must have withdrawn it once more. */
  #withdrawn(id: string): void {
    const left = (this.#removals.get(id) ?? 0) - 1;
    if (left < 0) throw new Error(`${id} was withdrawn, though it was there all the time`);
    this.#removals.set(id, left);
  }

  /** Anything but the first list: whoever tells its end too early lies. */
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

test.for(Array.from({ length: 12 }, (_, i) => i + 1))('whatever happens (seed %i)', async (seed) => {
  const life = new Life(seed);
  onTestFinished(() => life.world.source.stop());
  await life.world.start();
  try {
    for (let step = 1; step <= STEPS; step += 1) {
      await life.step();
      if (step % 25 === 0) await life.calm();
    }
  } catch (error) {
    throw new Error(`seed ${seed}, after ${life.trail.slice(-60).join(', ')}`, { cause: error });
  }
  expect(life.world.services).toEqual(expect.arrayContaining([0, 1, 2, 3, 4].map((i) => `default/stable-${i}`)));
});
