// SPDX-License-Identifier: Apache-2.0
// The view of a small agent, for tests of api/ and cli/: one Service in sync, one Service with a different kernel state, and one
// frontend in the kernel that is not desired. Tests copy and change the rows. The view must not read a clock or a map.
import type { Explanation, PacketQuery } from '../../../daemon/model/explanation.ts';
import type { HandoverCalls } from '../../../daemon/api/grpc.ts';
import type { AgentStatus, AgentView, BackendView, Health, ServiceView } from '../../../daemon/status/view.ts';

export const status: AgentStatus = {
  version: '0.1.0',
  commit: 'abc1234',
  libbpf: '1.5.0',
  kernel: '6.18.0',
  node: 'node-a',
  pid: 4242,
  uptimeSeconds: 3725,
  ready: true,
  reasons: [],
  sources: [{ name: 'files /etc/sluice', isInitialized: true, isComplete: true, problems: [] }],
  reconcile: { done: 12, pending: 0, error: 0, errors: [] },
  counts: { services: 10, frontends: 12, backends: 30 },
  maps: [
    { name: 'lb4_frontends', type: 'hash', capacity: 65_536, used: 12 },
    { name: 'ct4', type: 'lru_hash', capacity: 262_144, used: undefined },
  ],
  attachments: [
    { hook: 'ingress', target: 'veth0', kind: 'tcx', program: 'tc_pod_in' },
    { hook: 'connect4', target: '/sys/fs/cgroup', kind: 'cgroup', program: 'sock_connect4' },
  ],
  devices: [],
  socketLb: true,
  hostProblems: [],
  repairs: { total: 0, last: [], problems: [] },
  drops: [{ reason: 'no backend', packets: 9_007_199_254_740_993n, bytes: 540n }],
  conflicts: [],
  addressSets: [{ name: 'pod', cidrs: ['10.244.1.0/24'] }],
  settings: [{ name: 'detect-local-mode', value: 'NodeCIDR' }],
  findings: {
    node: { summary: 'node-a', problems: [] },
    firewall: { summary: '', problems: [] },
    devices: { summary: '1 uplink, 3 pod interfaces', problems: [] },
    missingPrograms: { summary: '', problems: [] },
    otherAgents: { summary: '', problems: [] },
    displacedPrograms: { summary: '', problems: [] },
    programsAhead: { summary: '', problems: [] },
    mapSizes: { summary: '', problems: [] },
    networkPolicies: { summary: 'no NetworkPolicy in the cluster', problems: [] },
  },
  unserved: { refused: [], excluded: [] },
  handover: { phase: 'serving', openFlows: undefined },
  log: { droppedLines: 0, reason: undefined },
};

/** Calls that change nothing. */
export const handover: HandoverCalls = {
  drain: () => Promise.resolve({ tcp: 2, udp: 1, sctp: 0 }),
  migrate: () => undefined,
};

export const troubledStatus: AgentStatus = {
  ...status,
  ready: false,
  reasons: ['the first list of the source files /etc/sluice is not complete'],
  sources: [
    {
      name: 'files /etc/sluice',
      isInitialized: false,
      isComplete: false,
      problems: [
        {
          file: 'web.yaml',
          line: 7,
          kind: 'Service',
          object: 'default/web',
          field: 'spec.ports[0].port',
          message: 'web.yaml:7: Service default/web spec.ports[0].port: must be 1..65535, is 70000',
        },
        { file: 'broken.yaml', line: 0, kind: '', object: '', field: '', message: 'broken.yaml: cannot be read: EACCES' },
      ],
    },
  ],
  reconcile: { done: 10, pending: 1, error: 1, errors: [{ key: 'default/big:/TCP/IPv4', message: 'lb4_backends is full', retries: 3 }] },
  maps: [{ name: 'lb4_frontends', type: 'hash', capacity: 100, used: 95, flag: 'max-frontends' }],
  attachments: [],
  hostProblems: ['net.ipv4.ip_forward is 0: set it to 1'],
  repairs: {
    total: 3,
    last: [{ sentence: 'tc_pod_in on lxc1: link was detached', at: Date.UTC(2026, 10, 23, 4, 5, 6) }],
    problems: ['map ct4 could not be repaired: pin /sys/fs/bpf/sluice/maps/ct4: EPERM'],
  },
  drops: [],
  conflicts: [{ frontend: '10.96.0.10:80/TCP', owner: 'default/web:http/TCP/IPv4', contenders: ['default/late:http/TCP/IPv4'] }],
};

const noExtras = { affinitySeconds: 0, sourceRanges: [], healthCheckNodePort: 0 };
const done: ServiceView['row'] = { state: 'done', message: '', retries: 0 };

export const services: readonly ServiceView[] = [
  {
    id: 0,
    key: '10.96.0.99:53/UDP/internal',
    namespace: '',
    name: '',
    portName: '',
    protocol: 'UDP',
    family: 'IPv4',
    isWanted: false,
    ...noExtras,
    frontends: [
      {
        ...{ address: '10.96.0.99', port: 53, protocol: 'UDP', scope: 'internal', type: '', policy: '' },
        ...{ hasSourceRanges: false, isWanted: false, isRealized: true },
      },
    ],
    backends: [],
    run: [{ id: 9, address: '10.0.9.9', port: 53, slots: 1 }],
    differences: ['kernel holds frontend 10.96.0.99:53/UDP that no Service wants'],
    row: { state: 'pending', message: '', retries: 0 },
  },
  {
    id: 2,
    key: 'default/api:/TCP/IPv6',
    namespace: 'default',
    name: 'api',
    portName: '',
    protocol: 'TCP',
    family: 'IPv6',
    isWanted: true,
    ...noExtras,
    frontends: [
      {
        address: 'fd00::a',
        port: 443,
        protocol: 'TCP',
        scope: 'internal',
        type: 'ClusterIP',
        policy: 'Cluster',
        hasSourceRanges: false,
        isWanted: true,
        isRealized: true,
      },
    ],
    backends: [
      { address: 'fd01::1', port: 8443, use: 'active', isLocal: true, isUsable: true, isLocallyUsable: false },
      { address: 'fd01::2', port: 8443, use: 'active', isLocal: false, isUsable: true, isLocallyUsable: false },
    ],
    run: [{ id: 4, address: 'fd01::1', port: 8443, slots: 1 }],
    differences: ['kernel lacks [fd01::2]:8443'],
    row: { state: 'error', message: 'lb6_backends is full', retries: 3 },
  },
  {
    id: 1,
    key: 'default/web:http/TCP/IPv4',
    namespace: 'default',
    name: 'web',
    portName: 'http',
    protocol: 'TCP',
    family: 'IPv4',
    isWanted: true,
    ...noExtras,
    frontends: [
      {
        address: '10.96.0.10',
        port: 80,
        protocol: 'TCP',
        scope: 'internal',
        type: 'ClusterIP',
        policy: 'Cluster',
        hasSourceRanges: false,
        isWanted: true,
        isRealized: true,
      },
    ],
    backends: [
      { address: '10.0.0.1', port: 8080, use: 'active', isLocal: true, isUsable: true, isLocallyUsable: false },
      { address: '10.0.0.2', port: 8080, use: 'terminating', isLocal: false, isUsable: false, isLocallyUsable: false },
    ],
    run: [{ id: 1, address: '10.0.0.1', port: 8080, slots: 1 }],
    differences: [],
    row: done,
  },
];

export const backends: readonly BackendView[] = [
  {
    id: 1,
    family: 'IPv4',
    address: '10.0.0.1',
    port: 8080,
    generation: 1,
    service: 'default/web:http/TCP/IPv4',
    frontends: ['10.96.0.10:80/TCP'],
    flags: ['usable', 'local', 'serving', 'present'],
    isWanted: true,
  },
  {
    id: 9,
    family: 'IPv4',
    address: '10.0.9.9',
    port: 53,
    generation: 7,
    service: '',
    frontends: ['10.96.0.99:53/UDP'],
    flags: ['present'],
    isWanted: false,
  },
];

/** An AgentView whose rows a test may replace. */
export class FakeView implements AgentView {
  current: AgentStatus = status;
  rows: readonly ServiceView[] = services;
  statusCalls = 0;
  healthCalls = 0;
  /** If set, every method except health() and explainReady() throws this error. */
  failure: Error | undefined;

  status(): AgentStatus {
    this.statusCalls += 1;
    return this.#or(this.current);
  }

  services(): Iterable<ServiceView> {
    return this.#or(this.rows);
  }

  backends(): readonly BackendView[] {
    return this.#or(backends);
  }

  /** Explains each packet as passing unchanged. */
  explain(queries: readonly PacketQuery[]): Iterable<Explanation> {
    const none = {
      verdict: 'NONE',
      frontend: null,
      candidates: [],
      moreCandidates: 0,
      backend: null,
      masquerade: false,
      reason: 'not ours',
      steps: [],
    } as const;
    return this.#or(queries.map(() => none));
  }

  /** Tests replace it. */
  explainReady: () => Promise<void> = () => Promise.resolve();

  health(): Health {
    this.healthCalls += 1;
    return { ready: this.current.ready, reasons: this.current.reasons };
  }

  #or<T>(value: T): T {
    if (this.failure !== undefined) throw this.failure;
    return value;
  }
}
