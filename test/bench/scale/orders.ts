// SPDX-License-Identifier: Apache-2.0
// Writes the objects of a large cluster to an API server or to its double: first all objects, then changes of EndpointSlices, one
// at a time or at a fixed rate. Each line of JSON on stdin is an order; the answer is one line on stdout. Times are read from the
// monotonic clock, which all processes of the machine share. writer.ts and double.ts run it.
import { createInterface } from 'node:readline';
import { lastAddress, serviceOf, sliceOf, vipOf } from './objects.ts';

export type Order =
  /** Order that creates the Services and slices from number `from` on. */
  | { readonly do: 'fill'; readonly from: number; readonly count: number; readonly endpoints: number }
  /** Order that changes `count` slices, one at a time: it moves one endpoint of the slice, then waits for `pauseMs`. */
  | { readonly do: 'one by one'; readonly services: number; readonly endpoints: number; readonly count: number; readonly pauseMs: number }
  /**
   * Order that moves all endpoints of `perSecond` slices per second, at even intervals, while at most MOST_IN_FLIGHT changes are
   * unanswered.
   */
  | { readonly do: 'churn'; readonly services: number; readonly endpoints: number; readonly perSecond: number; readonly seconds: number };

/** A change of one slice. Times in ms. */
export interface Written {
  readonly vip: string;
  /** The result of lastAddress() after the change. */
  readonly address: string;
  readonly sent: number;
  readonly answered: number;
}

export type ScaleObject = ReturnType<typeof serviceOf> | ReturnType<typeof sliceOf>;

/** Stores the objects. create() and replace() resolve when the server has accepted the object. */
export interface Holder {
  /** Creating an object that exists already is not an error. */
  create(object: ScaleObject): Promise<void>;
  replace(object: ScaleObject): Promise<void>;
}

const IN_FLIGHT = 30;
/**
 * Maximum number of changes without an answer. A real API server rejects more than 200 writes at a time. A slower server gets fewer changes
 * instead.
 */
export const MOST_IN_FLIGHT = 100;
/** Distance between two Services that change one after the other, so that they do not have adjacent numbers. */
const STRIDE = 7919;

const now = (): number => Number(process.hrtime.bigint()) / 1e6;
const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export class Orders {
  readonly #holder: Holder;
  readonly #generations = new Map<number, number>();
  #turns = 0;

  constructor(holder: Holder) {
    this.#holder = holder;
  }

  async carryOut(order: Order): Promise<readonly Written[]> {
    switch (order.do) {
      case 'fill':
        return this.#fill(order);
      case 'one by one':
        return this.#oneByOne(order);
      case 'churn':
        return this.#churn(order);
    }
  }

  async #fill({ from, count, endpoints }: Order & { do: 'fill' }): Promise<[]> {
    let at = from;
    const worker = async (): Promise<void> => {
      while (at < from + count) {
        const n = at;
        at += 1;
        await this.#holder.create(serviceOf(n));
        await this.#holder.create(sliceOf(n, endpoints));
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, worker));
    return [];
  }

  async #oneByOne({ count, pauseMs, ...size }: Order & { do: 'one by one' }): Promise<Written[]> {
    const written: Written[] = [];
    for (let i = 0; i < count; i += 1) {
      written.push(await this.#move({ ...size, moved: 1 }));
      await pause(pauseMs);
    }
    return written;
  }

  async #churn({ perSecond, seconds, ...size }: Order & { do: 'churn' }): Promise<Written[]> {
    const began = now();
    const elapsed = (): number => (now() - began) / 1000;
    const written: Written[] = [];
    const moving = new Set<Promise<void>>();
    const failures: unknown[] = [];
    for (let started = 0; elapsed() < seconds && started < perSecond * seconds && failures.length === 0;) {
      const due = Math.min(perSecond * seconds, elapsed() * perSecond);
      for (; started < due && moving.size < MOST_IN_FLIGHT; started += 1) {
        const one: Promise<void> = this.#move({ ...size, moved: size.endpoints })
          .then((each) => void written.push(each))
          .catch((error: unknown) => void failures.push(error))
          .finally(() => moving.delete(one));
        moving.add(one);
      }
      await pause(1);
    }
    await Promise.all(moving);
    if (failures.length > 0) throw failures[0];
    return written;
  }

  /** Advances by STRIDE to another slice and writes the next version of this slice. */
  async #move({ services, endpoints, moved }: { services: number; endpoints: number; moved: number }): Promise<Written> {
    const n = (this.#turns * STRIDE) % services;
    this.#turns += 1;
    const generation = (this.#generations.get(n) ?? 0) + 1;
    this.#generations.set(n, generation);
    const sent = now();
    const turn = { generation, moved, at: new Date() };
    await this.#holder.replace(sliceOf(n, endpoints, turn));
    return { vip: vipOf(n), address: lastAddress(n, endpoints, turn), sent, answered: now() };
  }
}

/** Carries out orders until stdin ends. */
export async function carryOutOrders(holder: Holder): Promise<void> {
  const orders = new Orders(holder);
  for await (const line of createInterface({ input: process.stdin })) {
    const answer = await orders.carryOut(JSON.parse(line) as Order);
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  }
}
