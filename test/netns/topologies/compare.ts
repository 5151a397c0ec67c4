// SPDX-License-Identifier: Apache-2.0
// Compares Sluice with the control in one topology, cell by cell. Where the control has an answer, Sluice must have it too, and the
// server must see the same source address. A cell that differs must be listed as a difference (differences.ts) and be exactly as
// listed, or as a known failure (known-failures.ts). Everything that is listed must occur. Each topology has one test file, which calls
// compare().
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cell, cells, cellsOf, nameOf, rowsOf } from './cells.ts';
import { differences } from './differences.ts';
import { knownFailures } from './known-failures.ts';
import { placeOf, type Topology, World } from './world.ts';

/** First a short time-out, because many cells fail. Then a time in which a lost SYN is repeated twice, for unexpected results only. */
const TIMEOUT_MS = 1000;
const AGAIN_MS = 4000;
const ROUNDS = 3;

const isAnswer = (outcome: string): boolean => outcome.includes(' sees ');

/** The cells of rows, each with the object that has the row. A cell must not be in two rows. */
function tableOf<T>(entries: readonly { readonly rows: readonly string[]; readonly entry: T }[]): Map<string, T> {
  const table = new Map<string, T>();
  for (const { rows, entry } of entries) {
    for (const cell of rows.flatMap(cellsOf)) {
      if (table.has(nameOf(cell))) throw new Error(`The cell "${nameOf(cell)}" is listed twice.`);
      table.set(nameOf(cell), entry);
    }
  }
  return table;
}

/** One line for each kind of problem, with the rows of its cells. */
function summary(problems: ReadonlyMap<Cell, string>): string[] {
  const kinds = Map.groupBy(problems.keys(), (cell) => problems.get(cell) ?? '');
  return [...kinds].map(([problem, affected]) => `${problem}:\n  ${rowsOf(affected).join('\n  ')}`);
}

class Comparison {
  readonly topology: Topology;
  readonly ours: World;
  readonly control: World;
  /** Outcomes of the control by cell, which do not depend on --socket-lb. */
  readonly #wanted = new Map<string, string>();
  readonly #withoutControl: ReadonlyMap<string, unknown>;
  readonly #known: ReadonlyMap<string, unknown>;
  readonly #different: ReadonlyMap<string, (typeof differences)[number]>;

  constructor(topology: Topology, ours: World, control: World) {
    this.topology = topology;
    this.ours = ours;
    this.control = control;
    const toRows = (each: { readonly cells: readonly string[] }) => ({ rows: each.cells, entry: true });
    this.#withoutControl = tableOf((topology.withoutControl ?? []).map(toRows));
    this.#known = tableOf((knownFailures[topology.name] ?? []).map(toRows));
    const own = differences.filter(({ topologies }) => topologies === undefined || topologies.includes(topology.name));
    this.#different = tableOf(own.map((entry) => ({ rows: entry.cells, entry })));
  }

  /** Asks the control. Returns the problems: an answer that is listed as missing, none where it is not listed, or another server. */
  async askControl(): Promise<Map<Cell, string>> {
    const problemOf = (cell: Cell, outcome: string): string | undefined => {
      const isMissing = this.#withoutControl.has(nameOf(cell));
      if (!isAnswer(outcome)) return isMissing ? undefined : `the control has no answer: ${this.control.shown(outcome)}`;
      if (isMissing) return 'the control has an answer, although it is listed that it has none';
      return outcome.startsWith(`${placeOf[cell.backend]} sees `)
        ? undefined
        : `the control has the wrong answer: ${this.control.shown(outcome)}`;
    };
    const isOne = (cell: Cell): boolean => cell.socketLb === 'off';
    const problems = await this.#rounds(cells.filter(isOne), async (asked, timeoutMs) => {
      const results = await this.control.ask(asked, timeoutMs);
      for (const [n, cell] of asked.entries()) {
        for (const socketLb of ['off', 'on'] as const) this.#wanted.set(nameOf({ ...cell, socketLb }), results[n]?.outcome ?? '');
      }
      return asked.map((cell, n) => problemOf(cell, results[n]?.outcome ?? ''));
    });
    return problems;
  }

  /** Asks Sluice, and returns the cells that are neither as wanted nor known to fail, or that pass although they are known to fail. */
  askOurs(socketLb: Cell['socketLb']): Promise<Map<Cell, string>> {
    const own = cells.filter((cell) => cell.socketLb === socketLb);
    return this.#rounds(own, async (asked, timeoutMs) => {
      const results = await this.ours.ask(asked, timeoutMs);
      return asked.map((cell, n) => this.#problemOf(cell, results[n]?.outcome ?? ''));
    });
  }

  #problemOf(cell: Cell, outcome: string): string | undefined {
    const control = this.#wanted.get(nameOf(cell)) ?? '';
    const wanted = this.#different.get(nameOf(cell))?.want(cell, this.ours) ?? control;
    if (outcome === wanted) return this.#known.has(nameOf(cell)) ? 'passes, but is listed as a known failure' : undefined;
    if (this.#known.has(nameOf(cell))) return undefined;
    const [got, others, listed] = [outcome, control, wanted].map((each) => this.ours.shown(each));
    return `Sluice: ${got}, control: ${others}${wanted === control ? '' : `, listed difference: ${listed}`}`;
  }

  /** Tries the cells with problems again, because a packet may be lost or late. */
  async #rounds(
    all: readonly Cell[],
    ask: (asked: readonly Cell[], timeoutMs: number) => Promise<(string | undefined)[]>,
  ): Promise<Map<Cell, string>> {
    const problems = new Map<Cell, string>();
    let asked = all;
    for (let round = 0; round < ROUNDS && asked.length > 0; round += 1) {
      problems.clear();
      const found = await ask(asked, round === 0 ? TIMEOUT_MS : AGAIN_MS);
      for (const [n, cell] of asked.entries()) if (found[n] !== undefined) problems.set(cell, found[n]);
      if (round === 0 && problems.size > 0) console.log(`${this.topology.name}: ${problems.size} of ${all.length} cells are tried again`);
      asked = [...problems.keys()];
    }
    return problems;
  }

  /** "270 cells: 250 as the control, 12 differ as listed, 8 known failures". */
  account(socketLb: Cell['socketLb']): string {
    const own = cells.filter((cell) => cell.socketLb === socketLb).map(nameOf);
    const failing = own.filter((name) => this.#known.has(name)).length;
    const different = own.filter((name) => this.#different.has(name) && !this.#known.has(name)).length;
    const answered = own.filter((name) => isAnswer(this.#wanted.get(name) ?? '')).length;
    return `${own.length} cells: the control answers ${answered}; ${own.length - failing - different} equal, ${different} differ as listed, ${failing} known failures`;
  }
}

/** Declares the tests of a topology. */
export function compare(topology: Topology): void {
  let comparison: Comparison;
  const worlds: World[] = [];

  beforeAll(async () => {
    const [ours, control] = await Promise.all([World.start(topology), World.start(topology)]);
    worlds.push(ours, control);
    control.loadRules();
    comparison = new Comparison(topology, ours, control);
  });

  afterAll(() => Promise.all(worlds.map((world) => world.close())));

  test(`${topology.name}: the control answers, except where it is listed that it cannot`, async () => {
    expect(summary(await comparison.askControl())).toEqual([]);
  });

  test.for(['off', 'on'] as const)(`${topology.name}: Sluice with --socket-lb %s is like the control`, async (socketLb) => {
    await comparison.ours.startDaemon(socketLb === 'on');
    const problems = await comparison.askOurs(socketLb);
    console.log(`${topology.name}, --socket-lb ${socketLb}: ${comparison.account(socketLb)}`);
    expect(summary(problems)).toEqual([]);
  });
}
