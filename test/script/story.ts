// SPDX-License-Identifier: Apache-2.0
// Runs one story: Kubernetes YAML in, map dump out, over fake or faulty maps. Each line is a command; "!" before it says
// that it must fail; "#" begins a comment. With faults injected, every command that looks waits until retries are through.
import { parseAllDocuments } from 'yaml';
import { frontendKey } from '../../daemon/model/frontend.ts';
import { hostPort } from '../../daemon/model/address.ts';
import { dumpMaps } from '../../daemon/reconcile/dump.ts';
import { convertObject, type Converted } from '../../daemon/source/objects.ts';
import { type FakeCapacities, type FakeLbMaps, fakeLbMaps } from '../../daemon/maps/fake-maps.ts';
import { faultyLbMaps } from '../faulty-maps.ts';
import { World } from '../world.ts';
import { type Archive, parseTxtar } from './txtar.ts';

export interface StoryOptions {
  /** Share of map writes that fail. */
  readonly faults: number;
  readonly seed: number;
}

/** The story itself is wrong (no such command or file): "!" does not excuse it. */
class StoryError extends Error {}

type Command = (story: Story, args: readonly string[]) => void;

const commands: Readonly<Record<string, Command>> = {
  // Sizes of the maps: "daemon/maps slots=6 frontends=2". Only as the first command.
  'daemon/maps': (story, sizes) =>
    story.open(Object.fromEntries(sizes.map((size) => size.split('=')).map(([name, n]) => [name, Number(n)]))),
  // kill -9 and a new start on the same maps; the API objects are listed again.
  'daemon/restart': (story) => story.restart(),
  'k8s/add': (story, files) => story.each(files, (object) => story.apply(object, 'add')),
  'k8s/update': (story, files) => story.each(files, (object) => story.apply(object, 'update')),
  'k8s/delete': (story, files) => story.each(files, (object) => story.apply(object, 'delete')),
  'db/show': (story, [table]) => console.log(story.table(table).join('\n')),
  'db/cmp': (story, [table, file]) => story.compare(story.table(table), file),
  'db/empty': (story, tables) => tables.forEach((table) => story.compareLines(story.table(table), [], `table ${table}`)),
  'maps/dump': (story) => console.log(story.dump().join('\n')),
  'maps/cmp': (story, [file]) => story.compare(story.dump(), file),
  'maps/empty': (story) => story.compareLines(story.dump(), [], 'maps'),
  // No map write was asked for since the last restart.
  'maps/quiet': (story) => story.compareLines(story.writesSinceRestart(), [], 'writes since restart'),
  'clock/advance': (story, [time]) => story.advance(time ?? ''),
  'reconcile/prune': (story) => story.prune(),
};

/** Throws at the first line that does not go as told, naming it. */
export function runStory(name: string, text: string, options: StoryOptions): void {
  const archive = parseTxtar(text);
  const story = new Story(archive, options);
  for (const [at, raw] of archive.comment.entries()) {
    const line = raw.replace(/(^|\s)#.*$/, '').trim();
    if (line === '') continue;
    const mustFail = line.startsWith('!');
    const [command = '', ...args] = line.replace(/^!\s*/, '').split(/\s+/);
    const where = `${name}:${at + 1}: ${line}`;
    const failure = failureOf(story, command, args);
    if (failure !== undefined && (!mustFail || failure instanceof StoryError))
      throw new Error(`${where}\n${failure.message}`, { cause: failure });
    if (failure === undefined && mustFail) throw new Error(`${where}\nmust fail, and succeeded`);
  }
}

function failureOf(story: Story, command: string, args: readonly string[]): Error | undefined {
  const run = commands[command];
  if (run === undefined) return new StoryError(`no command ${command}: there are ${Object.keys(commands).join(', ')}`);
  try {
    run(story, args);
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

  constructor(archive: Archive, options: StoryOptions) {
    this.#archive = archive;
    this.#options = options;
    this.#fake = fakeLbMaps();
    this.#world = this.#makeWorld();
  }

  open(sizes: Partial<FakeCapacities>): void {
    this.#fake = fakeLbMaps(sizes);
    this.#world = this.#makeWorld();
  }

  restart(): void {
    this.#settle();
    const objects = this.#world.objects();
    this.#fake.writes.length = 0;
    this.#world.restart().putAll(objects).listed();
  }

  writesSinceRestart(): string[] {
    this.#settle();
    return this.#fake.writes.map(({ map, op, at }) => `${map} ${op} ${at}`);
  }

  each(files: readonly string[], action: (object: Converted) => void): void {
    for (const file of files) {
      for (const document of parseAllDocuments(this.#file(file))) {
        const object = convertObject(document.toJS());
        if (object.problems[0] !== undefined) throw object.problems[0];
        action(object);
      }
    }
    this.#world.flush();
  }

  apply(object: Converted, verb: 'add' | 'update' | 'delete'): void {
    if (object.kind === 'unknown') throw new StoryError('a story has no object of unknown kind');
    const tables = {
      Service: this.#world.services,
      EndpointSlice: this.#world.slices,
      Node: this.#world.nodes,
      ServiceCIDR: this.#world.serviceCIDRs,
    };
    const table = tables[object.kind];
    const isThere = table.get(object.key) !== undefined;
    if (isThere === (verb === 'add')) throw new Error(`${object.kind} ${object.key} is ${isThere ? 'there already' : 'not there'}`);
    if (verb === 'delete' || object.row === undefined) table.delete(object.key);
    else this.#world.put(object.row);
  }

  table(name: string | undefined): string[] {
    this.#settle();
    if (name === 'services') return [...this.#world.services.all()].map(([key]) => key).sort();
    if (name === 'slices') return [...this.#world.slices.all()].map(([key, row]) => `${key} of ${row.service}`).sort();
    if (name === 'desired') return this.#desiredLines();
    if (name === 'errors') return [...this.#world.reconciler.failed()].map(([key, { error }]) => `${key} ${error?.message}`).sort();
    if (name === 'conflicts') {
      return this.#world.controller
        .conflicts()
        .map(({ frontend, owner, contenders }) => `${frontend}: ${owner} before ${contenders.join(' ')}`);
    }
    throw new StoryError(`no table ${name}: there are services, slices, desired, errors, conflicts`);
  }

  dump(): string[] {
    this.#settle();
    return dumpMaps(this.#fake);
  }

  advance(time: string): void {
    const [, number, unit] = /^(\d+)(ms|s)$/.exec(time) ?? [];
    if (number === undefined) throw new StoryError(`not a time: ${time}`);
    // What failed by injection is through before the time that the story tells begins.
    this.#settle();
    this.#world.advance(Number(number) * (unit === 's' ? 1000 : 1));
  }

  prune(): void {
    this.#world.reconciler.requestPrune();
    this.#settle();
  }

  compare(lines: readonly string[], file: string | undefined): void {
    const want = this.#file(file ?? '')
      .split('\n')
      .map((line) => line.trimEnd())
      .filter((line) => line !== '');
    this.compareLines(lines, want, file ?? '');
  }

  compareLines(lines: readonly string[], want: readonly string[], what: string): void {
    if (lines.join('\n') === want.join('\n')) return;
    const show = (title: string, text: readonly string[]): string => [`  ${title}:`, ...text.map((line) => `    ${line}`)].join('\n');
    throw new Error(`${what} differs\n${show('want', want)}\n${show('is', lines)}`);
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

  /** Without faults nothing may need a retry. With faults: until what is left failed for a reason of its own. */
  #settle(): void {
    this.#world.flush();
    if (this.#options.faults === 0) return;
    for (let round = 0; round < 200; round += 1) {
      const errors = [...this.#world.reconciler.failed()].map(([, { error }]) => error?.message ?? '');
      const isThrough = errors.length === 0 ? this.#world.reconciler.isClean : !errors.some((message) => message.includes('injected'));
      if (isThrough) return;
      this.#world.advance(60_000);
    }
    throw new Error('the faults do not end');
  }

  #makeWorld(): World {
    const { faults: rate, seed } = this.#options;
    return new World({ maps: faultyLbMaps(this.#fake, { rate, seed }) }).listed();
  }
}
