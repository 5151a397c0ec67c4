// SPDX-License-Identifier: Apache-2.0
// A cluster of any size whose API server is the double, in a process of its own, and a sluiced that reads it. Measures cold start and
// memory. Also sends the orders (commands) to the processes that write objects. cluster.ts and large-rows.ts use it.
import { join } from 'node:path';
import type { Lab } from '../../support/lab/lab.ts';
import type { LabProcess } from '../../support/lab/process.ts';
import type { Order, Written } from './orders.ts';
import { steadyRssMiB } from './process-costs.ts';
import { type ColdStart, Sluiced } from './proxies.ts';

export interface Size {
  readonly services: number;
  /** Number of endpoints of each Service. */
  readonly endpoints: number;
}

/** Figures of a cluster that is too large for a real API server on this machine. */
export interface LargerFigures {
  readonly cold: ColdStart;
  readonly rssMiB: number;
}

/** Number of Services that one order creates. */
const FILL_STEP = 1000;
/** Time limit of one order in ms. On a slow machine 1,000 Services take more than a minute; a churn takes 20 s. */
const ORDER_MS = 600_000;
const DEFAULT_BACKENDS = 262_144;

export async function order(holder: LabProcess, given: Order): Promise<Written[]> {
  return JSON.parse(await holder.ask(JSON.stringify(given), ORDER_MS)) as Written[];
}

export async function fill(holder: LabProcess, { services, endpoints }: Size): Promise<void> {
  for (let from = 0; from < services; from += FILL_STEP) {
    await order(holder, { do: 'fill', from, count: Math.min(FILL_STEP, services - from), endpoints });
  }
}

/** The flags with which an operator would size the maps: the smallest power of two of which the backends use at most four fifths. */
export function mapFlags({ services, endpoints }: Size): string[] {
  const backends = 2 ** Math.ceil(Math.log2(services * endpoints * 1.25));
  return backends <= DEFAULT_BACKENDS ? [] : ['--max-backends', String(backends)];
}

export class DoubleCluster {
  readonly #size: Size;
  readonly #sluiced: Sluiced;
  readonly #double: LabProcess;

  private constructor(size: Size, sluiced: Sluiced, double: LabProcess) {
    this.#size = size;
    this.#sluiced = sluiced;
    this.#double = double;
  }

  /** Starts the double on the loopback of the lab's node, and creates all objects. `name` distinguishes the doubles of a lab. */
  static async start(lab: Lab, name: string, size: Size): Promise<DoubleCluster> {
    const kubeconfig = join(lab.directory, `${name}.kubeconfig`);
    const double = lab.start('node', [process.execPath, join(import.meta.dirname, 'double.ts'), kubeconfig]);
    await double.line((line) => line === 'ready');
    await fill(double, size);
    return new DoubleCluster(size, new Sluiced(lab, kubeconfig, mapFlags(size)), double);
  }

  /** Fills the code cache of the lab, as on a node where sluiced has run before. */
  async warmUp(): Promise<void> {
    await this.#sluiced.warmUp();
  }

  /** Starts sluiced without earlier state, measures it and stops it. */
  async coldStart(): Promise<LargerFigures> {
    const cold = await this.#sluiced.start(this.#size.services, this.#size.endpoints);
    const found = { cold, rssMiB: await steadyRssMiB(this.#sluiced.pid) };
    await this.#sluiced.stop();
    return found;
  }

  async stop(): Promise<void> {
    await this.#double.kill();
  }
}
