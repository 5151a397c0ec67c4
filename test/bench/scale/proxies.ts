// SPDX-License-Identifier: Apache-2.0
// The two proxies that are compared in a large cluster: sluiced as users start it, and the real kube-proxy in nftables mode with
// default settings. Each runs in the network namespace of one node of a lab, with the same credentials, and starts without
// earlier state. cluster.ts uses them.
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { podRange } from '../../support/lab/cluster.ts';
import { Daemon } from '../../support/lab/daemon.ts';
import { type Lab, labNodes } from '../../support/lab/lab.ts';
import type { LabProcess } from '../../support/lab/process.ts';
import { attempt } from '../../support/lab/shell.ts';
import { tools } from '../../cluster/tools.ts';
import { Page } from './exposition.ts';
import { vipOf } from './objects.ts';
import { cpuSeconds } from './process-costs.ts';
import type { AllProgrammed, Seen, WitnessOrder } from './witness.ts';

/** Figures of a cold start: from the exec() of the process until the kernel has all Services. */
export interface ColdStart {
  readonly cpuSeconds: number;
  readonly seconds: number;
  readonly secondsAfterList: number;
}

export interface Proxy {
  readonly name: string;
  readonly pid: number;
  /** `endpoints`: number of endpoints of each Service. */
  start(services: number, endpoints: number): Promise<ColdStart>;
  metrics(): Promise<Page>;
  stop(): Promise<void>;
}

/** Time limit of a cold start in ms: a hundred times what it takes on an idle machine. */
const COLD_START_MS = 900_000;

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

async function pageOf(lab: Lab, netns: string, url: string): Promise<Page> {
  const asked = lab.start(netns, ['curl', '--silent', '--max-time', '20', url]);
  await asked.ended;
  return new Page(asked.lines.join('\n'));
}

const SLUICED_HTTP = '127.0.0.1:9880';

export class Sluiced implements Proxy {
  readonly name = 'sluiced';
  readonly #lab: Lab;
  readonly #daemon: Daemon;
  readonly #pins: string;
  readonly #cache: string;
  readonly #more: readonly string[];
  #witness: LabProcess | undefined;

  /** `more` contains additional flags of sluiced. */
  constructor(lab: Lab, kubeconfig: string, more: readonly string[] = []) {
    this.#lab = lab;
    this.#more = more;
    this.#daemon = new Daemon(lab, 'node-a', ['--kubeconfig', kubeconfig]);
    this.#pins = join(lab.bpffs, 'sluice');
    this.#cache = join(lab.directory, 'compile-cache');
  }

  get pid(): number {
    return this.#daemon.process?.pid ?? 0;
  }

  /** Fills the code cache, as on a node where sluiced has run before. */
  async warmUp(): Promise<void> {
    await this.start(0, 0);
    // Node.js writes the code cache only when the process exits normally, as after SIGTERM.
    await this.#daemon.process?.kill('SIGTERM');
    await this.stop();
  }

  async start(services: number, endpoints: number): Promise<ColdStart> {
    this.#witness = this.#lab.start('node', [process.execPath, join(import.meta.dirname, 'witness.ts'), this.#pins]);
    const began = Date.now();
    const starting = this.#daemon.start({
      ...{ hasSocketLb: true, isSmall: false, isTuned: true, readyMs: COLD_START_MS, env: { NODE_COMPILE_CACHE: this.#cache } },
      extra: ['--cluster-cidr', podRange, '--http', SLUICED_HTTP, '--log-level', 'debug', ...this.#more],
    });
    const seeing = this.#see<AllProgrammed>({ see: 'all', services, pid: this.pid }, COLD_START_MS);
    const [full] = await Promise.all([seeing, starting]);
    // sluiced writes a frontend after its backends, so all backends must be in the maps when all frontends are.
    const wanted = services * endpoints;
    if (full.backends < wanted) throw new Error(`The maps have ${full.backends} backends of ${wanted}.`);
    const listed = this.#daemon.process?.lines.findLast((line) => line.includes('"msg":"listed"')) ?? '{}';
    const { ts = '' } = JSON.parse(listed) as { ts?: string };
    return { cpuSeconds: full.cpuSeconds, seconds: (full.at - began) / 1000, secondsAfterList: (full.at - Date.parse(ts)) / 1000 };
  }

  metrics(): Promise<Page> {
    return pageOf(this.#lab, 'node', `http://${SLUICED_HTTP}/metrics`);
  }

  /** Starts to record changes. The recording ends when seen() is called. */
  async follow(services: number): Promise<void> {
    await this.#see({ see: 'changes', services });
  }

  seen(): Promise<Seen> {
    return this.#see({ see: 'no more' });
  }

  async stop(): Promise<void> {
    await this.#daemon.process?.kill();
    await this.#witness?.kill();
    // The kernel frees programs and maps when their pins are removed.
    if (existsSync(this.#pins)) rmSync(this.#pins, { recursive: true });
  }

  async #see<T>(order: WitnessOrder, timeoutMs?: number): Promise<T> {
    return JSON.parse((await this.#witness?.ask(JSON.stringify(order), timeoutMs)) ?? 'null') as T;
  }
}

const KUBE_PROXY_METRICS = 'http://127.0.0.1:10249/metrics';
const LAST_SYNC = 'kubeproxy_sync_proxy_rules_last_timestamp_seconds';
const LOOK_EVERY_MS = 200;

export class KubeProxy implements Proxy {
  readonly name = 'kube-proxy';
  readonly #lab: Lab;
  readonly #config: string;
  readonly #timeoutMs: number;
  #process: LabProcess | undefined;

  constructor(lab: Lab, kubeconfig: string, timeoutMs: number) {
    this.#lab = lab;
    this.#timeoutMs = timeoutMs;
    this.#config = join(lab.directory, 'kube-proxy.json');
    const config = {
      ...{ apiVersion: 'kubeproxy.config.k8s.io/v1alpha1', kind: 'KubeProxyConfiguration', mode: 'nftables' },
      ...{ hostnameOverride: 'node-b', clusterCIDR: podRange, clientConnection: { kubeconfig } },
      // kube-proxy must not change the conntrack limits of the machine.
      conntrack: { maxPerCore: 0, min: 0, tcpEstablishedTimeout: '0s', tcpCloseWaitTimeout: '0s' },
    };
    writeFileSync(this.#config, JSON.stringify(config));
  }

  get pid(): number {
    return this.#process?.pid ?? 0;
  }

  /**
   * kube-proxy writes all rules in one transaction, so no rule is visible before the end. Its metric gives the time of the end.
   */
  async start(services: number): Promise<ColdStart> {
    const began = Date.now();
    const started = this.#lab.start(labNodes['node-b'].netns, [tools.kubeProxy, '--config', this.#config]);
    this.#process = started;
    await started.line((line) => line.includes('Caches are synced') && line.includes('endpoint slice config'));
    const listed = Date.now();
    for (;;) {
      await pause(LOOK_EVERY_MS);
      const at = (await this.metrics()).sum(LAST_SYNC, 'ip_family="IPv4"') * 1000;
      // The CPU time of nft, a child process of kube-proxy, counts only after nft has ended.
      const used = cpuSeconds(this.pid);
      if (at > 0) {
        this.#mustHave(services - 1);
        return { cpuSeconds: used, seconds: (at - began) / 1000, secondsAfterList: (at - listed) / 1000 };
      }
      if (Date.now() - began > this.#timeoutMs)
        throw new Error(`kube-proxy has written no rules after ${this.#timeoutMs / 1000} s: ${started.lines.slice(-10).join('\n')}`);
    }
  }

  metrics(): Promise<Page> {
    return pageOf(this.#lab, labNodes['node-b'].netns, KUBE_PROXY_METRICS);
  }

  async stop(): Promise<void> {
    await this.#process?.kill();
    for (const family of ['ip', 'ip6']) {
      const table = ['nft', 'delete', 'table', family, 'kube-proxy'];
      attempt('nsenter', `--net=/run/netns/${this.#lab.netns(labNodes['node-b'].netns)}`, ...table);
    }
  }

  /** Throws if the address of that Service is not in the rules. */
  #mustHave(service: number): void {
    const element = `{ ${vipOf(service)} . tcp . 80 }`;
    if (service >= 0) this.#lab.run(labNodes['node-b'].netns, 'nft', 'get', 'element', 'ip', 'kube-proxy', 'service-ips', element);
  }
}
