// SPDX-License-Identifier: Apache-2.0
// Runs one story. The input is Kubernetes YAML, the output is a dump of fake or faulty maps. Objects are written directly to the
// tables, or to the API server double, which a Kubernetes source watches. Each line of a story is a command. "!" before a command
// means that the command must fail. "#" begins a comment. With injected faults, commands that compare first wait until all retries
// are done.
import { setImmediate as nextTurn } from 'node:timers/promises';
import { parseAllDocuments } from 'yaml';
import { frontendKey } from '../../daemon/model/frontend.ts';
import { hostPort } from '../../daemon/model/address.ts';
import { dumpMaps } from '../support/dump-maps.ts';
import { type Definition, kindNames, kinds } from '../../daemon/source/kinds.ts';
import { convertObject } from '../../daemon/source/objects.ts';
import { tableOf, writeRow } from '../../daemon/source/tables.ts';
import { type FakeCapacities, type FakeLbMaps, fakeLbMaps } from '../support/fake-maps.ts';
import { keyOf, type RawObject } from '../support/double/objects.ts';
import { faultyLbMaps } from '../support/faulty-maps.ts';
import { World } from '../support/world.ts';
import { ClusterDouble } from './cluster-double.ts';
import { type Archive, parseTxtar } from './txtar.ts';

export interface StoryOptions {
  /** Share of the map writes that fail. */
  readonly faults: number;
  readonly seed: number;
  /** How objects reach the tables. */
  readonly through?: 'tables' | 'API server';
}

/** The story itself is invalid (unknown command or file). "!" does not accept this error. */
class StoryError extends Error {}

type Command = (story: Story, args: readonly string[]) => void | Promise<void>;

const commands: Readonly<Record<string, Command>> = {
  // Sets the sizes of the maps: "daemon/maps slots=6 frontends=2". Must be the first command.
  'daemon/maps': (story, sizes) =>
    story.open(Object.fromEntries(sizes.map((size) => size.split('=')).map(([name = '', n]) => [name, Number(n)] as const))),
  // Kills the daemon (kill -9) and starts it with the same maps. The API objects are listed again. The new process reaches the API
  // server at the given addresses.
  'daemon/restart': (story, addresses) => story.restart(addresses),
  // The agent reaches the API server at exactly these addresses: "10.0.0.1:6443".
  'daemon/reaches': (story, addresses) => story.reach(addresses),
  // All further requests to the API server fail (refuse, hang, 429, 500) until api/serve.
  'api/fail': (story, [how]) => story.cluster.fail(how ?? ''),
  'api/serve': (story) => story.cluster.server.serve(),
  // api/cut interrupts all watches, api/end ends them normally. Then the clock advances by the given time.
  'api/cut': (story, [time]) => {
    story.cluster.server.cut();
    return story.advance(time ?? '0s');
  },
  'api/end': (story, [time]) => {
    story.cluster.server.end();
    return story.advance(time ?? '0s');
  },
  // Writes an object that the agent cannot use.
  'api/put': (story, [file]) => story.cluster.put(story.raw(file ?? '')),
  'api/delete': (story, [file]) => {
    const object = story.raw(file ?? '');
    story.cluster.server.store.delete(object.kind, keyOf(object));
  },
  // Compacts the history of the server. A watch that continues from an older resourceVersion then gets 410.
  'api/compact': (story) => story.cluster.server.store.compact(),
  'k8s/add': (story, files) => story.each(files, 'add'),
  'k8s/update': (story, files) => story.each(files, 'update'),
  'k8s/delete': (story, files) => story.each(files, 'delete'),
  'db/show': async (story, [table]) => console.log((await story.table(table)).join('\n')),
  'db/cmp': async (story, [table, file]) => story.compare(await story.table(table), file),
  'db/empty': async (story, tables) => {
    for (const table of tables) story.compareLines(await story.table(table), [], `table ${table}`);
  },
  'maps/dump': async (story) => console.log((await story.dump()).join('\n')),
  'maps/cmp': async (story, [file]) => story.compare(await story.dump(), file),
  'maps/empty': async (story) => story.compareLines(await story.dump(), [], 'maps'),
  // maps/keep: from now on, these lines must be in the maps at all times.
  'maps/keep': (story, [file]) => story.keep(file),
  // Expects that no map was written since the last restart. Maps that are named as arguments may have been written.
  'maps/quiet': async (story, except) => story.compareLines(await story.writesSinceRestart(except), [], 'writes since restart'),
  'clock/advance': (story, [time]) => story.advance(time ?? ''),
  'reconcile/prune': (story) => story.prune(),
};

/** Rejects with the first line that fails. */
export async function runStory(name: string, text: string, options: StoryOptions): Promise<void> {
  const archive = parseTxtar(text);
  const story = new Story(archive, options);
  try {
    await story.start();
    await runLines(name, archive, story);
  } finally {
    await story.stop();
  }
}

async function runLines(name: string, archive: Archive, story: Story): Promise<void> {
  for (const [at, raw] of archive.comment.entries()) {
    const line = raw.replace(/(^|\s)#.*$/, '').trim();
    if (line === '') continue;
    const mustFail = line.startsWith('!');
    const [, times, words = ''] = /^(?:(\d+) times )?(.*)$/.exec(line.replace(/^!\s*/, '')) ?? [];
    const where = `${name}:${at + 1}: ${line}`;
    for (let left = Number(times ?? 1); left > 0; left -= 1) await runLine(story, words.split(/\s+/), { where, mustFail });
  }
}

interface Line {
  readonly where: string;
  readonly mustFail: boolean;
}

async function runLine(story: Story, words: readonly string[], { where, mustFail }: Line): Promise<void> {
  const [command = '', ...args] = words;
  const failure = await failureOf(story, command, args);
  if (failure !== undefined && (!mustFail || failure instanceof StoryError))
    throw new Error(`${where}\n${failure.message}`, { cause: failure });
  if (failure === undefined && mustFail) throw new Error(`${where}\nmust fail, but succeeded`);
}

async function failureOf(story: Story, command: string, args: readonly string[]): Promise<Error | undefined> {
  const run = commands[command];
  if (run === undefined) return new StoryError(`unknown command ${command}, known are ${Object.keys(commands).join(', ')}`);
  try {
    await run(story, args);
    await story.turn();
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
  return undefined;
}

class Story {
  readonly #archive: Archive;
  readonly #options: StoryOptions;
  #fake: FakeLbMaps;
  #world: World;
  #cluster: ClusterDouble | undefined;
  #kept: { readonly lines: readonly string[]; readonly file: string } | undefined;

  constructor(archive: Archive, options: StoryOptions) {
    this.#archive = archive;
    this.#options = options;
    this.#fake = fakeLbMaps();
    this.#world = this.#makeWorld();
  }

  get cluster(): ClusterDouble {
    if (this.#cluster === undefined) throw new StoryError('there is no API server: objects are written to the tables directly');
    return this.#cluster;
  }

  async start(): Promise<void> {
    if (this.#options.through === 'API server') this.#cluster = new ClusterDouble(this.#world);
    await this.#cluster?.start();
    this.#world.listed();
    await this.turn();
  }

  async stop(): Promise<void> {
    await this.#cluster?.stop();
  }

  async open(sizes: Partial<FakeCapacities>): Promise<void> {
    await this.stop();
    this.#fake = fakeLbMaps(sizes);
    this.#world = this.#makeWorld();
    await this.start();
  }

  reach(addresses: readonly string[]): void {
    const { apiServers } = this.#world.tables;
    for (const [key] of [...apiServers.all()]) if (!addresses.includes(key)) apiServers.delete(key);
    for (const key of addresses) {
      const [, address = '', port = ''] = /^\[?([^\]]+)\]?:(\d+)$/.exec(key) ?? [];
      if (port === '') throw new StoryError(`not an address and port: ${key}`);
      if (apiServers.get(key) === undefined) apiServers.upsert(key, { address, port: Number(port) });
    }
  }

  async restart(addresses: readonly string[]): Promise<void> {
    await this.#settle();
    await this.stop();
    const objects = this.#world.objects();
    this.#fake.writes.length = 0;
    this.#world.restart();
    this.reach(addresses);
    if (this.#cluster === undefined) this.#world.putAll(objects);
    await this.#cluster?.start();
    this.#world.listed();
  }

  async writesSinceRestart(except: readonly string[]): Promise<string[]> {
    await this.#settle();
    return this.#fake.writes.filter(({ map }) => !except.includes(map)).map(({ map, op, at }) => `${map} ${op} ${at}`);
  }

  each(files: readonly string[], verb: 'add' | 'update' | 'delete'): void {
    for (const file of files) {
      for (const document of parseAllDocuments(this.#file(file))) {
        const raw = document.toJS() as RawObject;
        const object = convertObject(raw);
        if (object.problems[0] !== undefined) throw object.problems[0];
        if (object.kind === 'unknown') throw new StoryError('a story must not contain an object of unknown kind');
        this.#apply(object, { raw, verb });
      }
    }
  }

  #apply(object: Definition, { raw, verb }: { readonly raw: RawObject; readonly verb: 'add' | 'update' | 'delete' }): void {
    const { tables } = this.#world;
    const { kind, key } = object;
    const exists = this.#cluster?.has(kind, key) ?? tableOf(tables, kind).get(key) !== undefined;
    if (exists === (verb === 'add')) throw new Error(`${kind} ${key} ${exists ? 'already exists' : 'does not exist'}`);
    if (this.#cluster !== undefined) {
      if (verb === 'delete') this.#cluster.server.store.delete(kind, key);
      else this.#cluster.put(raw);
    } else if (verb === 'delete') tableOf(tables, kind).delete(key);
    else writeRow(tables, object);
  }

  /** The only document of this file, as a raw object. */
  raw(file: string): RawObject {
    return parseAllDocuments(this.#file(file))[0]?.toJS() as RawObject;
  }

  keep(file: string | undefined): void {
    this.#kept = { lines: this.#lines(file ?? ''), file: file ?? '' };
  }

  /** Waits until all pending work is done, then checks the lines of maps/keep. */
  async turn(): Promise<void> {
    this.#world.flush();
    // Two turns of the event loop are needed. The source receives the events in the first one and reports them in the second one.
    for (let left = this.#cluster === undefined ? 0 : 2; left > 0; left -= 1) {
      await nextTurn();
      this.#world.flush();
    }
    if (this.#kept === undefined) return;
    const { lines, file } = this.#kept;
    const present = new Set(dumpMaps(this.#fake));
    const missing = lines.filter((line) => !present.has(line));
    if (missing.length > 0)
      throw new Error(`at ${this.#world.clock.now()} ms, lines of ${file} are missing in the maps:\n  ${missing.join('\n  ')}`);
  }

  async table(name: string | undefined): Promise<string[]> {
    await this.#settle();
    if (name === 'services') return [...this.#world.services.all()].map(([key]) => key).sort();
    if (name === 'slices') return [...this.#world.slices.all()].map(([key, row]) => `${key} of ${row.service}`).sort();
    if (name === 'desired') return this.#desiredLines();
    if (name === 'errors') return [...this.#world.reconciler.failed()].map(([key, { error }]) => `${key} ${error?.message}`).sort();
    if (name === 'conflicts') {
      return this.#world.controller
        .conflicts()
        .map(({ frontend, owner, contenders }) => `${frontend}: ${owner} before ${contenders.join(' ')}`);
    }
    if (name === 'refused') return this.#world.controller.refused().sort();
    const kind = kindNames.find((each) => kinds[each].table === name);
    if (kind !== undefined) return [...this.#world.rows(kind)].map(([key, row]) => `${key} ${JSON.stringify(row)}`).sort();
    const known = [...kindNames.map((each) => kinds[each].table), 'desired', 'errors', 'conflicts', 'refused'];
    throw new StoryError(`unknown table ${name}, known are ${known.join(', ')}`);
  }

  async dump(): Promise<string[]> {
    await this.#settle();
    return dumpMaps(this.#fake);
  }

  async advance(time: string): Promise<void> {
    const [, number, unit] = /^(\d+)(ms|s)$/.exec(time) ?? [];
    if (number === undefined) throw new StoryError(`not a time: ${time}`);
    // Retries of injected faults must be done before the clock advances.
    await this.#settle();
    await this.#advance(Number(number) * (unit === 's' ? 1000 : 1));
  }

  async prune(): Promise<void> {
    for (const loop of this.#world.reconcilers) loop.requestPrune();
    await this.#settle();
  }

  compare(lines: readonly string[], file: string | undefined): void {
    this.compareLines(lines, this.#lines(file ?? ''), file ?? '');
  }

  compareLines(lines: readonly string[], want: readonly string[], what: string): void {
    if (lines.join('\n') === want.join('\n')) return;
    const section = (title: string, text: readonly string[]): string => [`  ${title}:`, ...text.map((line) => `    ${line}`)].join('\n');
    throw new Error(`${what} differs\n${section('want', want)}\n${section('is', lines)}`);
  }

  #desiredLines(): string[] {
    const rows = [...this.#world.desired.all()].map(([key, row]) => {
      const frontends = row.frontends.map(frontendKey).join(' ');
      const usable = row.backends.filter((backend) => backend.isUsable).map(({ address, port }) => hostPort(address, port));
      return `${key} [${frontends}] -> [${usable.join(' ')}] ${this.#world.reconciler.status(key)?.kind}`;
    });
    return rows.sort();
  }

  #file(name: string): string {
    const text = this.#archive.files.get(name);
    if (text === undefined) throw new StoryError(`no file ${name} in the archive`);
    return text;
  }

  #lines(file: string): string[] {
    const lines = this.#file(file).split('\n');
    return lines.map((line) => line.trimEnd()).filter((line) => line !== '');
  }

  /** Waits until no row fails because of an injected fault. Failures with other causes, such as a full map, may remain. */
  async #settle(): Promise<void> {
    await this.turn();
    if (this.#options.faults === 0) return;
    for (let round = 0; round < 200; round += 1) {
      const loops = this.#world.reconcilers;
      const errors = loops.flatMap((loop) => [...loop.failed()]).map(([, { error }]) => error?.message ?? '');
      // While the source is incomplete, loops cannot prune and so never become clean. Waiting for them would not end.
      const isClean = loops.every((loop) => loop.isClean) || !this.#world.isComplete;
      const isDone = errors.length === 0 ? isClean : !errors.some((message) => message.includes('injected'));
      if (isDone) return;
      await this.#advance(60_000);
    }
    throw new Error('the injected faults do not end');
  }

  async #advance(ms: number): Promise<void> {
    const { clock } = this.#world;
    const end = clock.now() + ms;
    await this.turn();
    for (let next = clock.nextTimer; next !== undefined && next <= end; next = clock.nextTimer) {
      clock.advance(Math.max(0, next - clock.now()));
      await this.turn();
    }
    clock.advance(end - clock.now());
    await this.turn();
  }

  #makeWorld(): World {
    const { faults: rate, seed } = this.#options;
    return new World({ maps: faultyLbMaps(this.#fake, { rate, seed }) });
  }
}
