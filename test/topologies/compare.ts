// SPDX-License-Identifier: Apache-2.0
// Compares Sluice with the control in one topology, cell by cell. Where the control has an answer, Sluice must have it too, and the
// server must see the same source address. A cell that differs must be listed as a difference (differences.ts) and be exactly as
// listed, or as a known failure (known-failures.ts). Everything that is listed must occur. Each topology has one test file, which calls
// compare().
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Cell, cells, cellsOf, nameOf, rowsOf } from './cells.ts';
import { differences } from './differences.ts';
import { knownFailures } from './known-failures.ts';
import type { Result } from './place.ts';
import { placeOf, type Topology, World } from './world.ts';

/** First a short time-out, because many cells fail. Then a time in which a lost SYN is repeated twice, for unexpected results only. */
const TIMEOUT_MS = 1000;
const AGAIN_MS = 4000;
const ROUNDS = 3;
/** An error must arrive within this time of that of the control. */
const ERROR_MS = 500;

const noResult: Result = { outcome: 'no result', ms: 0 };
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;
const isAnswer = (outcome: string): boolean => outcome.includes(' sees ');

/** The entries by the cells of their rows. A cell must not be in two rows. */
function tableOf<T extends { readonly cells: readonly string[] }>(entries: readonly T[]): Map<string, T> {
  const table = new Map<string, T>();
  for (const entry of entries) {
    for (const cell of entry.cells.flatMap(cellsOf)) {
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

type Timed = (asked: readonly Cell[], timeoutMs: number) => Promise<Result[]>;

class Comparison {
  readonly topology: Topology;
  readonly ours: World;
  readonly control: World;
  readonly #cells: readonly Cell[];
  /** Results of the control by cell, which do not depend on --socket-lb. */
  readonly #control = new Map<string, Result>();
  readonly #withoutControl: ReadonlyMap<string, { readonly code?: string }>;
  readonly #known: ReadonlyMap<string, unknown>;
  readonly #different: ReadonlyMap<string, (typeof differences)[number]>;

  constructor(topology: Topology, ours: World, control: World) {
    this.topology = topology;
    this.ours = ours;
    this.control = control;
    this.#cells = topology.only?.flatMap(cellsOf) ?? cells;
    this.#withoutControl = tableOf(topology.withoutControl ?? []);
    this.#known = tableOf(knownFailures[topology.name] ?? []);
    this.#different = tableOf(differences.filter(({ topologies }) => topologies?.includes(topology.name) ?? true));
    const tried = new Set(this.#cells.map(nameOf));
    const idle = [...this.#known.keys()].find((name) => !tried.has(name));
    if (idle !== undefined) throw new Error(`The known failure "${idle}" is not tried in the topology ${topology.name}.`);
  }

  /** Asks the control. Returns the problems: an answer that is listed as missing, none where it is not listed, or another server. */
  askControl(): Promise<Map<Cell, string>> {
    const own = this.#cells.filter(({ socketLb }) => socketLb === 'off');
    const ask: Timed = async (asked, timeoutMs) => {
      const results = await this.control.ask(asked, timeoutMs);
      for (const [n, cell] of asked.entries()) {
        for (const socketLb of ['off', 'on'] as const) this.#control.set(nameOf({ ...cell, socketLb }), results[n] ?? noResult);
      }
      return results;
    };
    return this.#rounds(own, ask, (cell, result) => this.#controlProblemOf(cell, result));
  }

  #controlProblemOf(cell: Cell, { outcome }: Result): string | undefined {
    const listed = this.#withoutControl.get(nameOf(cell));
    const shown = this.control.shown(outcome);
    if (isAnswer(outcome) && listed !== undefined) return 'the control has an answer, although it is listed that it has none';
    if (isAnswer(outcome))
      return outcome.startsWith(`${placeOf[cell.backend]} sees `) ? undefined : `the control has the wrong answer: ${shown}`;
    return listed === undefined || (listed.code !== undefined && listed.code !== outcome)
      ? `the control has no answer: ${shown}`
      : undefined;
  }

  /** Asks Sluice, and returns the cells that are neither as wanted nor known to fail, or that pass although they are known to fail. */
  askOurs(socketLb: Cell['socketLb']): Promise<Map<Cell, string>> {
    const own = this.#cells.filter((cell) => cell.socketLb === socketLb);
    return this.#rounds(
      own,
      (asked, timeoutMs) => this.ours.ask(asked, timeoutMs),
      (cell, result) => this.#problemOf(cell, result),
    );
  }

  #problemOf(cell: Cell, result: Result): string | undefined {
    const problem = this.#differenceOf(cell, result);
    if (!this.#known.has(nameOf(cell))) return problem;
    return problem === undefined ? 'passes, but is listed as a known failure' : undefined;
  }

  /** What is not as it must be: as listed as a difference, otherwise as with the control. */
  #differenceOf(cell: Cell, { outcome, ms }: Result): string | undefined {
    const control = this.#control.get(nameOf(cell)) ?? noResult;
    const listed = this.#different.get(nameOf(cell))?.want(cell, this.ours);
    if (listed !== undefined && outcome === listed) return undefined;
    if (listed === undefined && outcome === control.outcome) {
      const isLate = !isAnswer(outcome) && Math.abs(ms - control.ms) > ERROR_MS;
      return isLate ? `Sluice: ${outcome} after ${seconds(ms)}, control: after ${seconds(control.ms)}` : undefined;
    }
    const all = `Sluice: ${this.ours.shown(outcome)}, control: ${this.ours.shown(control.outcome)}`;
    return listed === undefined ? all : `${all}, listed difference: ${this.ours.shown(listed)}`;
  }

  /** Tries the cells with problems again, because a packet may be lost or late. */
  async #rounds(
    all: readonly Cell[],
    ask: Timed,
    problemOf: (cell: Cell, result: Result) => string | undefined,
  ): Promise<Map<Cell, string>> {
    const { name, timeoutMs } = this.topology;
    const problems = new Map<Cell, string>();
    let asked = all;
    for (let round = 0; round < ROUNDS && asked.length > 0; round += 1) {
      problems.clear();
      const results = await ask(asked, timeoutMs ?? (round === 0 ? TIMEOUT_MS : AGAIN_MS));
      for (const [n, cell] of asked.entries()) {
        const problem = problemOf(cell, results[n] ?? noResult);
        if (problem !== undefined) problems.set(cell, problem);
      }
      if (round === 0 && problems.size > 0) console.log(`${name}: ${problems.size} of ${all.length} cells are tried again`);
      asked = [...problems.keys()];
    }
    return problems;
  }

  account(socketLb: Cell['socketLb'], problems: ReadonlyMap<Cell, string>): string {
    const own = this.#cells.filter((cell) => cell.socketLb === socketLb).map(nameOf);
    const failing = own.filter((name) => this.#known.has(name)).length;
    const different = own.filter((name) => this.#different.has(name) && !this.#known.has(name)).length;
    const answered = own.filter((name) => isAnswer(this.#control.get(name)?.outcome ?? '')).length;
    const equal = own.length - failing - different - problems.size;
    return `${own.length} cells, ${answered} answered by the control; ${equal} equal, ${different} differ as listed, ${failing} known failures`;
  }
}

/** Declares the tests of a topology. */
export function compare(topology: Topology): void {
  let comparison: Comparison;
  const worlds: World[] = [];

  beforeAll(async () => {
    const [ours, control] = await Promise.all([World.start(topology, false), World.start(topology, true)]);
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
    console.log(`${topology.name}, --socket-lb ${socketLb}: ${comparison.account(socketLb, problems)}`);
    expect(summary(problems)).toEqual([]);
  });
}
