// SPDX-License-Identifier: Apache-2.0
// A lab with a real control plane that holds many objects, and with the two proxies, only one of which runs at a time. Measures
// one run of each proxy: cold start, memory, latency of a change, cost of churn. scale-rows.ts uses it.
import { join } from 'node:path';
import { apiUrl, ControlPlane } from '../../cluster/control-plane.ts';
import { Kubelet } from '../../cluster/kubelet.ts';
import { Lab } from '../../support/lab/lab.ts';
import type { LabProcess } from '../../support/lab/process.ts';
import { DoubleCluster, fill, type LargerFigures, order, type Size } from './double-cluster.ts';
import { between, type Page } from './exposition.ts';
import { cpuSeconds, rssMiB, steadyRssMiB } from './process-costs.ts';
import { type ColdStart, KubeProxy, type Proxy, Sluiced } from './proxies.ts';
import type { Seen } from './witness.ts';
import type { Written } from './orders.ts';

/** Latencies of changes in ms. */
export interface Latencies {
  /** Time from the write of a change until it is programmed. For kube-proxy, p50 and p99 come from its own metric. */
  readonly p50: number;
  readonly p99: number;
  /**
   * Mean of the metric network_programming_duration_seconds, which also measures from the write until the change is programmed.
   */
  readonly mean: number;
}

/** Cost during one third of the churn period. */
export interface Third {
  readonly cpuPercent: number;
  readonly rssMiB: number;
}

export interface Figures {
  readonly cold: ColdStart;
  readonly rssMiB: number;
  readonly one: Latencies;
  readonly churn: Latencies;
  readonly thirds: readonly Third[];
}

/** The figures of sluiced. The figures that kube-proxy does not have come from the kernel's maps or from the metrics of Node.js. */
export interface SluicedFigures extends Figures {
  /** p99 of the latency in ms, for one change at a time. */
  readonly afterAnswer: number;
  readonly afterEvent: number;
  readonly thirds: readonly (Third & { readonly p99: number; readonly delayMs: number; readonly gcMsPerSecond: number })[];
}

/** Number of Services in the cluster of LargerFigures, divided by the number in the cluster of all other figures. */
export const LARGER_FACTOR = 5;
const CHANGES = 200;
const PAUSE_MS = 20;
const CHURN_SHARE = 0.01;
const THIRD_SECONDS = 20;
/** Pause before the metrics are read. It covers a sync of kube-proxy, which starts once a second and takes seconds. */
const SETTLE_MS = 5000;
/** Timer interval of prom-client. The event loop delay that prom-client reports includes this interval. */
const DELAY_TIMER_MS = 10;
const KUBE_PROXY_TIMEOUT_MS = 600_000;
/**
 * Share of the changes that the server must accept. A slower server gets fewer changes, and the figures of the churn are then not
 * comparable.
 */
const FEWEST_CHANGES = 0.95;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.ceil(share * sorted.length) - 1] ?? NaN;
}

export class ScaleCluster {
  readonly sluiced: Sluiced;
  readonly kubeProxy: KubeProxy;
  readonly #size: Size;
  readonly #lab: Lab;
  readonly #writer: LabProcess;
  readonly #say: (text: string) => void;

  private constructor(lab: Lab, plane: ControlPlane, { size, say }: { size: Size; say: (text: string) => void }) {
    this.#say = say;
    this.#lab = lab;
    this.#size = size;
    const kubeconfig = plane.kubeconfig('proxy', apiUrl);
    this.sluiced = new Sluiced(lab, kubeconfig);
    this.kubeProxy = new KubeProxy(lab, kubeconfig, KUBE_PROXY_TIMEOUT_MS);
    const admin = plane.kubeconfig('admin', 'https://localhost:6443');
    this.#writer = lab.start('api', [process.execPath, join(import.meta.dirname, 'writer.ts'), admin]);
  }

  /** Starts the control plane and creates all objects. Calls `say` with the progress. */
  static async start(size: Size, say: (text: string) => void): Promise<ScaleCluster> {
    const lab = new Lab();
    try {
      lab.addNode();
      lab.addPod(1);
      const plane = await ControlPlane.start(lab);
      await new Kubelet(plane.api).registerNodes();
      const made = new ScaleCluster(lab, plane, { size, say });
      await made.sluiced.warmUp();
      await fill(made.#writer, size);
      say(`  the API server has ${size.services} Services of ${size.endpoints} endpoints`);
      return made;
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  async measureKubeProxy(): Promise<Figures> {
    const proxy = this.kubeProxy;
    const cold = await proxy.start(this.#size.services);
    const rss = await steadyRssMiB(proxy.pid);
    const one = await this.#programming(proxy, () => this.#oneByOne());
    const thirds: Third[] = [];
    const churn = await this.#programming(proxy, async () => {
      for (let n = 0; n < 3; n += 1) thirds.push(await costOf(proxy, () => this.#churn()));
    });
    await proxy.stop();
    return { cold, rssMiB: rss, one, churn, thirds };
  }

  async measureSluiced(): Promise<SluicedFigures> {
    const proxy = this.sluiced;
    const cold = await proxy.start(this.#size.services, this.#size.endpoints);
    const rss = await steadyRssMiB(proxy.pid);
    await proxy.follow(this.#size.services);
    let written: Written[] = [];
    const one = await this.#programming(proxy, async () => void (written = await this.#oneByOne()));
    const seen = await proxy.seen();
    const single = written.map((each) => effectOf(each, seen));
    const thirds: SluicedFigures['thirds'][number][] = [];
    const all: number[] = [];
    const churn = await this.#programming(proxy, async () => {
      for (let n = 0; n < 3; n += 1) {
        const { latencies, ...third } = await this.#third(proxy);
        thirds.push(third);
        all.push(...latencies);
      }
    });
    await proxy.stop();
    const fromWrite = single.map(({ afterWrite }) => afterWrite);
    return {
      ...{ cold, rssMiB: rss, thirds },
      one: { ...one, p50: quantile(fromWrite, 0.5), p99: quantile(fromWrite, 0.99) },
      churn: { ...churn, p50: quantile(all, 0.5), p99: quantile(all, 0.99) },
      afterAnswer: quantile(
        single.map(({ afterAnswer }) => afterAnswer),
        0.99,
      ),
      afterEvent: quantile(
        single.map(({ afterEvent }) => afterEvent),
        0.99,
      ),
    };
  }

  /** Measures one cold start and the memory with LARGER_FACTOR times the Services. The API server double runs in its own process. */
  async measureLarger(): Promise<LargerFigures> {
    const double = await DoubleCluster.start(this.#lab, 'larger', { ...this.#size, services: this.#size.services * LARGER_FACTOR });
    const found = await double.coldStart();
    await double.stop();
    return found;
  }

  async close(): Promise<void> {
    await this.#lab.close();
  }

  async #third(proxy: Sluiced) {
    await proxy.follow(this.#size.services);
    const before = await proxy.metrics();
    let written: Written[] = [];
    const cost = await costOf(proxy, async () => void (written = await this.#churn()));
    const after = await proxy.metrics();
    const seen = await proxy.seen();
    const latencies = written.map((each) => effectOf(each, seen).afterWrite);
    return { ...cost, ...loopOf(before, after), latencies, p99: quantile(latencies, 0.99) };
  }

  /** The latencies of the changes that `change` makes, from the proxy's own metric. */
  async #programming(proxy: Proxy, change: () => Promise<unknown>): Promise<Latencies> {
    const before = await proxy.metrics();
    await change();
    await pause(SETTLE_MS);
    const { count, mean, quantile: at } = between(before, await proxy.metrics(), 'kubeproxy_network_programming_duration_seconds');
    if (count === 0) throw new Error(`The metrics of ${proxy.name} contain no change.`);
    return { p50: at(0.5) * 1000, p99: at(0.99) * 1000, mean: mean * 1000 };
  }

  #oneByOne(): Promise<Written[]> {
    return order(this.#writer, { do: 'one by one', ...this.#size, count: CHANGES, pauseMs: PAUSE_MS });
  }

  async #churn(): Promise<Written[]> {
    const rate = { perSecond: this.#size.services * CHURN_SHARE, seconds: THIRD_SECONDS };
    const written = await order(this.#writer, { do: 'churn', ...this.#size, ...rate });
    const wanted = rate.perSecond * rate.seconds;
    if (written.length < wanted * FEWEST_CHANGES)
      this.#say(
        `  WARNING: The API server accepted ${written.length} of ${wanted} changes. The machine is too slow for the rows of the churn.`,
      );
    return written;
  }
}

/**
 * The latencies of a change, counted from three moments: when it was sent, when the server answered, and when the event reached the node.
 */
function effectOf({ vip, address, sent, answered }: Written, { changes, arrivals }: Seen) {
  const change = changes.find((each) => each.vip === vip && each.address === address && each.at >= sent);
  if (change === undefined) throw new Error(`The backend ${address} of ${vip} was never programmed.`);
  const arrival = arrivals.find((at) => at >= sent) ?? NaN;
  return { afterWrite: change.at - sent, afterAnswer: change.at - answered, afterEvent: change.at - arrival };
}

async function costOf(proxy: Proxy, work: () => Promise<unknown>): Promise<Third> {
  const [began, used] = [performance.now(), cpuSeconds(proxy.pid)];
  await work();
  const seconds = (performance.now() - began) / 1000;
  return { cpuPercent: ((cpuSeconds(proxy.pid) - used) / seconds) * 100, rssMiB: rssMiB(proxy.pid) };
}

function loopOf(before: Page, after: Page): { delayMs: number; gcMsPerSecond: number } {
  const gcSeconds = after.sum('nodejs_gc_duration_seconds_sum') - before.sum('nodejs_gc_duration_seconds_sum');
  const delay = after.sum('nodejs_eventloop_lag_p99_seconds') * 1000;
  return { delayMs: delay - DELAY_TIMER_MS, gcMsPerSecond: (gcSeconds * 1000) / THIRD_SECONDS };
}
