// SPDX-License-Identifier: Apache-2.0
// What the API shows, read at one moment from tables, maps and the reconciler's status: wanted beside held, and the
// difference. Reads only. Built by agent.ts; api/ shows it.
import { type AgentStatus, type AgentView, backendUse, type BackendView, type Health, type ServiceView } from '../status/view.ts';
import type { Config } from '../config/schema.ts';
import type { ControlPlane } from './services.ts';
import type { HealthParts } from './health.ts';
import type { ExplainService } from './explain.ts';
import { hostProblems } from '../host/forwarding.ts';
import type { Datapath } from '../bpf/datapath.ts';
import type { Devices } from '../bpf/devices.ts';
import type { Guard } from '../bpf/guard.ts';
import type { Sockets } from '../bpf/sockets.ts';
import { dropCounts } from '../maps/datapath-state.ts';
import { BackendState, FrontendFlag, type LbMaps } from '../maps/types.ts';
import { families, type Family, familyOf, hostPort, parseAddress } from '../model/address.ts';
import type { Answer, Question } from '../model/explanation.ts';
import { backendsFor, type DesiredPort, frontendKey, scopeOf } from '../model/frontend.ts';
import { compareText } from '../model/order.ts';
import type { Protocol } from '../model/service.ts';
import type { Versions } from '../model/versions.ts';
import type { Repairs } from '../base/repairs.ts';
import { realized, type RealizedFrontend } from '../maps/read/realized.ts';
import { flagsOf, flagsText, generationOf } from '../maps/rows.ts';
import { versions } from '../host/version.ts';

export interface AgentParts {
  readonly config: Config;
  readonly datapath: Datapath;
  readonly devices: Devices;
  readonly sockets: Sockets;
  readonly guard: Guard;
  readonly repairs: Repairs;
  readonly plane: ControlPlane;
  readonly maps: () => LbMaps;
  readonly explain: ExplainService;
  readonly health: HealthParts;
}

/** Map types by the kernel's number, for the few that we have. */
const mapTypes: Readonly<Record<number, string>> = { 1: 'hash', 2: 'array', 6: 'percpu_array', 9: 'lru_hash' };
const shownErrors = 20;

const hookNames: Readonly<Record<string, string>> = {
  ...{ tc_pod_in: 'ingress', tc_pod_out: 'egress', tc_uplink_in: 'ingress', tc_uplink_out: 'egress' },
  ...{ sock_connect4: 'connect4', sock_connect6: 'connect6', sock_sendmsg4: 'sendmsg4', sock_sendmsg6: 'sendmsg6' },
  ...{ sock_recvmsg4: 'recvmsg4', sock_recvmsg6: 'recvmsg6', sock_getpeer4: 'getpeername4', sock_getpeer6: 'getpeername6' },
};

class View implements AgentView {
  readonly #parts: AgentParts;
  readonly #versions: Versions = versions();

  constructor(parts: AgentParts) {
    this.#parts = parts;
  }

  health(): Health {
    const { plane } = this.#parts;
    const loop = plane.loop();
    const reasons: string[] = [];
    if (!plane.desired.initialized || !plane.host.initialized) {
      const whys = plane.source.problems().slice(0, shownErrors);
      reasons.push('the first list of the sources is not finished', ...whys.map(({ message }) => message));
    } else if (loop?.isReady() !== true) reasons.push('the first reconcile is not finished');
    return { ready: reasons.length === 0, reasons };
  }

  status(): AgentStatus {
    const { config, datapath, devices, sockets, guard, repairs, plane, health } = this.#parts;
    const reconciler = plane.loop()?.reconciler;
    const hostReconciler = plane.loop()?.hostReconciler;
    const errors = [...(reconciler?.failed() ?? []), ...(hostReconciler?.failed() ?? [])].slice(0, shownErrors);
    const attachments = [...devices.attachments(), ...sockets.attachments()];
    return {
      ...{ ...this.#versions, ...this.health() },
      ...{ node: config.node, pid: process.pid, uptimeSeconds: process.uptime(), socketLb: config.socketLb },
      sources: [
        {
          name: plane.source.name,
          isInitialized: plane.services.initialized,
          isComplete: plane.source.isComplete,
          problems: plane.source.problems(),
        },
      ],
      reconcile: {
        ...(reconciler?.counts() ?? { done: 0, pending: 0, error: 0 }),
        errors: errors.map(([key, { error, retries }]) => ({ key, message: error?.message ?? '', retries })),
      },
      counts: this.#counts(),
      maps: this.#mapStatus(),
      attachments: attachments.map(({ program, target, kind }) => ({ hook: hookNames[program] ?? program, target, kind, program })),
      hostProblems: [...this.#hostProblems(), ...devices.problems(), ...health.problems()],
      drops: dropCounts(datapath.map('lb_drops'))
        .filter(({ packets }) => packets > 0)
        .map(({ reason, packets, bytes }) => ({ reason, packets: BigInt(packets), bytes: BigInt(bytes) })),
      repairs: { total: repairs.total, last: repairs.last(), problems: guard.problems() },
      conflicts: plane.controller.conflicts(),
    };
  }

  explain(questions: readonly Question[]): readonly Answer[] {
    return this.#parts.explain.explain(questions);
  }

  services(): readonly ServiceView[] {
    const held = new Map<string, Held>(realized(this.#parts.maps()).map((frontend) => [frontend.key, { ...frontend, isClaimed: false }]));
    const views = [...this.#parts.plane.desired.all()].map(([, port]) => this.#serviceView(port, held));
    const unwanted = [...held.values()].filter((frontend) => !frontend.isClaimed).map(unwantedView);
    return [...views, ...unwanted].toSorted((a, b) => compareText(a.key, b.key));
  }

  backends(): readonly BackendView[] {
    const maps = this.#parts.maps();
    const owners = this.#parts.plane.loop()?.operations.owners() ?? new Map<number, string>();
    const frontendsOf = Map.groupBy(realized(maps), (frontend) => frontend.service);
    const found: BackendView[] = [];
    for (const family of families) {
      for (const [id, { address, port, service, meta }] of maps.backends[family].rows()) {
        if ((meta & BackendState.present) === 0) continue;
        const key = owners.get(service) ?? '';
        const wanted = this.#parts.plane.desired.get(key)?.backends ?? [];
        found.push({
          ...{ id, family, address, port, service: key, generation: generationOf(meta) },
          frontends: (frontendsOf.get(service) ?? []).filter((each) => each.family === family).map((each) => each.key),
          flags: (['usable', 'local', 'serving', 'present'] as const).filter((flag) => (meta & BackendState[flag]) !== 0),
          isWanted: wanted.some((backend) => backend.address === address && backend.port === port),
        });
      }
    }
    return found;
  }

  #serviceView(port: DesiredPort, held: Map<string, Held>): ServiceView {
    const frontends = port.frontends.map((frontend) => ({ frontend, realized: held.get(frontendKey(frontend)) }));
    for (const { realized: found } of frontends) if (found !== undefined) found.isClaimed = true;
    const first = frontends.find(({ realized: found }) => found !== undefined)?.realized;
    const status = this.#parts.plane.loop()?.reconciler.status(port.key);
    return {
      ...{ id: first?.service ?? 0, key: port.key, namespace: port.namespace, name: port.name, portName: port.portName },
      ...{ protocol: port.protocol, family: port.family, isWanted: true },
      frontends: frontends.map(({ frontend, realized: found }) => ({
        ...{ ...frontend, scope: scopeOf(frontend), isWanted: true, isRealized: found !== undefined },
      })),
      backends: port.backends.map((backend) => ({ ...backend, use: backendUse(backend) })),
      run: runOf(first),
      differences: differencesOf(port, frontends),
      row: { state: status?.kind ?? 'pending', message: status?.error?.message ?? '', retries: status?.retries ?? 0 },
    };
  }

  #counts(): AgentStatus['counts'] {
    const ports = [...this.#parts.plane.desired.all()].map(([, port]) => port);
    const sum = (of: (port: DesiredPort) => number): number => ports.reduce((total, port) => total + of(port), 0);
    return {
      services: this.#parts.plane.services.size,
      frontends: sum((port) => port.frontends.length),
      backends: sum((port) => port.backends.length),
    };
  }

  #mapStatus(): AgentStatus['maps'] {
    const used = new Map(
      this.#parts.plane
        .loop()
        ?.pressure()
        .map((row) => [row.map, row]),
    );
    return this.#parts.datapath.mapNames().map((name) => {
      const { info } = this.#parts.datapath.map(name);
      const row = used.get(name);
      return { name, type: mapTypes[info.type] ?? String(info.type), capacity: row?.capacity ?? info.maxEntries, used: row?.used };
    });
  }

  #hostProblems(): string[] {
    const { config, plane } = this.#parts;
    const inUse = new Map<Family, string>();
    for (const [, port] of plane.desired.all()) {
      const address = port.frontends[0]?.address;
      if (address !== undefined && !inUse.has(port.family)) inUse.set(port.family, address);
    }
    const ranges = config.serviceCidr.map((range) => parseAddress(range.split('/')[0] ?? '')?.text).filter((text) => text !== undefined);
    return hostProblems({
      serviceAddresses: ranges.length > 0 ? ranges : [...inUse.values()],
      hasSocketLb: config.socketLb,
      families: new Set([...inUse.keys(), ...ranges.map(familyOf)]),
      hasDevices: config.podInterfaces.length + config.uplinks.length > 0,
    });
  }
}

type Held = RealizedFrontend & { isClaimed: boolean };

/** Each backend of the run once, with the number of slots that name it. */
function runOf(held: RealizedFrontend | undefined): ServiceView['run'] {
  const byId = Map.groupBy(held?.backends ?? [], (backend) => backend.id);
  return [...byId.values()].flatMap(([backend, ...others]) =>
    backend === undefined ? [] : [{ id: backend.id, address: backend.address, port: backend.port, slots: 1 + others.length }],
  );
}

/** One line for each thing in which the kernel differs from what is wanted. */
function differencesOf(
  port: DesiredPort,
  frontends: readonly { readonly frontend: DesiredPort['frontends'][number]; readonly realized: RealizedFrontend | undefined }[],
): string[] {
  const lines: string[] = [];
  const textsOf = (backends: readonly { address: string; port: number }[]): Set<string> =>
    new Set(backends.map((backend) => hostPort(backend.address, backend.port)));
  const wantedSets = {
    Cluster: textsOf(backendsFor(port, 'Cluster')),
    Local: textsOf(backendsFor(port, 'Local')),
  };
  for (const { frontend, realized: found } of frontends) {
    if (found === undefined) {
      lines.push(`kernel lacks frontend ${frontendKey(frontend)}`);
      continue;
    }
    if (found.flags !== flagsOf(frontend)) lines.push(`kernel has ${frontendKey(frontend)} as ${flagsText(found.flags)}`);
    const wanted = wantedSets[frontend.policy];
    const held = textsOf(frontend.policy === 'Local' ? found.localBackends : found.backends);
    for (const each of wanted.difference(held)) lines.push(`kernel lacks ${each} for ${frontendKey(frontend)}`);
    for (const each of held.difference(wanted)) lines.push(`kernel has ${each} for ${frontendKey(frontend)}, which is not wanted`);
    if (found.dangling > 0) lines.push(`${found.dangling} slots of ${frontendKey(frontend)} name no backend`);
  }
  return lines;
}

/** A frontend that the kernel holds and nobody wants. */
function unwantedView(held: RealizedFrontend): ServiceView {
  const [, address = '', port = '', protocol = ''] = /^\[?([^\]]*?)\]?:(\d+)\/(\w+)$/.exec(held.key) ?? [];
  const text = held.key;
  const scope = (held.flags & FrontendFlag.external) === 0 ? 'internal' : 'external';
  return {
    ...{ id: held.service, key: text, namespace: '', name: '', portName: '', protocol: protocol as Protocol, family: held.family },
    ...{ isWanted: false, backends: [], run: runOf(held) },
    frontends: [
      {
        ...{ address, port: Number(port), protocol: protocol as Protocol, scope, type: '', policy: '' },
        ...{ isWanted: false, isRealized: true },
      },
    ],
    differences: [`kernel has frontend ${text}, which is not wanted`],
    row: { state: 'pending', message: '', retries: 0 },
  };
}

export const agentView = (parts: AgentParts): AgentView => new View(parts);
