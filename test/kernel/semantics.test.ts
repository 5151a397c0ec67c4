// SPDX-License-Identifier: Apache-2.0
// The oracle and the kernel must agree. Every packet case of test/README.md and 10,000 random packets run through the oracle, through the
// read-only program of `sluice explain`, and through the program that translates packets. Explaining a packet must not change a map.
import { afterAll, expect, test } from 'vitest';
import { trace, type Trace, type TracePacket } from '../support/oracle.ts';
import { Explainer } from '../../daemon/explain/explainer.ts';
import { frameOf } from '../../daemon/explain/frame.ts';
import { ExplainPrograms } from '../../daemon/explain/programs.ts';
import { cidrContains, hostPort } from '../../daemon/model/address.ts';
import type { Explanation, Origin } from '../../daemon/model/explanation.ts';
import type { DesiredRange } from '../../daemon/model/frontend.ts';
import { desiredOf, type Desired } from '../support/semantics/case.ts';
import { semanticsCases } from '../support/semantics/cases.ts';
import { randomCase } from '../support/semantics/random.ts';
import { deviceMac, devices, ip, type Loaded, objectsPath, plainHost, smallSizes } from './fixture.ts';
import { loadForFile } from './load-for-file.ts';
import { readIp, TC_ACT_SHOT, TC_ACT_UNSPEC } from './packet.ts';

const PACKETS = 10_000;
const PACKETS_PER_CASE = 50;
const seed = Number(process.env['SEMANTICS_SEED'] ?? Date.now() % 1_000_000);

let loaded: Loaded;
let programs: ExplainPrograms;

loadForFile(
  (it) => {
    loaded = it;
    // Every backend has a route to a gateway that does not exist.
    ip('route', 'add', 'default', 'via', '10.0.0.254', 'dev', 'eth0');
    ip('-6', 'route', 'add', 'default', 'via', 'fd00:10::254', 'dev', 'eth0');
    programs = ExplainPrograms.load({ objectsPath, reuse: loaded.datapath.mapFds() });
  },
  { ...smallSizes, lb_services: { entries: 512, flag: 'test' }, lb_slots: { entries: 512, flag: 'test' } },
);
afterAll(() => programs.close());

const hooks = { pod: 'tc_pod_in', node: 'tc_uplink_out', external: 'tc_uplink_in' } as const;

/** Runs one case in the kernel: fills the maps, explains packets and sends packets through the programs. */
class Kernel {
  readonly #desired: Desired;
  readonly #explainer: Explainer;

  constructor(desired: Desired) {
    this.#desired = desired;
    // After this delay, the ids that the previous case freed may be used again.
    loaded.clock.advance(2000);
    loaded.apply([]);
    loaded.clock.advance(2000);
    loaded.apply([...desired.ports.values()]);
    const { nodeAddresses, snatPorts, hasTc } = plainHost;
    loaded.applyHost({ ...desired.host, nodeAddresses, snatPorts, hasTc }, [...desired.ranges.values()]);
    const owners = new Map(loaded.owners());
    this.#explainer = new Explainer({
      ...{ programs, maps: loaded.maps, sockets: { problem: 'not part of this test' }, owners: () => owners },
      ports: (key) => desired.ports.get(key),
      originOf: (source) => this.originOf(source),
      deviceOf: ({ hook }) => ({ ifindex: devices.eth0, program: `tc_${hook}`, problem: undefined }),
      service: () => undefined,
      deviceName: () => undefined,
      isPodInterface: (origin, iface) =>
        iface === undefined ? origin === 'pod' : desired.podInterfaces.some((prefix) => iface.startsWith(prefix)),
    });
  }

  originOf(source: string): Origin {
    const isIn = (set: DesiredRange['set']): boolean =>
      [...this.#desired.ranges.values()].some((row) => row.set === set && cidrContains(row.cidr, source));
    return isIn('node') ? 'node' : isIn('pod') ? 'pod' : 'external';
  }

  explain(packet: TracePacket): Explanation {
    return this.#explainer.explain({ ...packet, from: packet.from, iface: packet.iface });
  }

  /** The result of the program that translates packets: the verdict and, for a translated packet, backend and source. */
  run(packet: TracePacket): { verdict: Trace['verdict']; backend?: string; source?: string } {
    const origin = packet.from ?? this.originOf(packet.sourceIP);
    const isPod =
      packet.iface === undefined ? origin === 'pod' : this.#desired.podInterfaces.some((prefix) => packet.iface?.startsWith(prefix));
    const hook = origin === 'node' ? hooks.node : isPod ? hooks.pod : hooks.external;
    const frame = frameOf({
      ...{ protocol: packet.protocol, source: packet.sourceIP, destination: packet.destIP },
      ...{ sourcePort: packet.sourcePort, destinationPort: packet.destPort },
    });
    frame.set(deviceMac);
    const before = loaded.drops();
    const { verdict, packet: out } = loaded.forward(hook, frame, { ifindex: devices.eth0 });
    const after = loaded.drops();
    const reason = Object.keys(after).find((name) => after[name] !== before[name]);
    if (reason === 'NO_BACKEND' || reason === 'WRONG_PORT') return { verdict: 'REJECT' };
    if (verdict === TC_ACT_SHOT) return { verdict: 'DROP' };
    if (verdict === TC_ACT_UNSPEC) return { verdict: 'NONE' };
    const { source, destination, destinationPort = 0 } = readIp(out.subarray(14), true);
    return { verdict: 'DNAT', backend: hostPort(destination, destinationPort), source };
  }
}

/** Runs a packet through the oracle, the read-only program and the translating program, and compares the results. */
function expectAgreement(kernel: Kernel, desired: Desired, packet: TracePacket): Trace {
  const where = JSON.stringify(packet);
  const wanted = trace(desired, packet);
  const answer = kernel.explain(packet);
  expect({ where, verdict: answer.verdict, candidates: answer.candidates }).toEqual({
    ...{ where, verdict: wanted.verdict, candidates: wanted.candidates.toSorted() },
  });
  const ran = kernel.run(packet);
  expect(ran.verdict, where).toBe(wanted.verdict);
  if (wanted.verdict !== 'DNAT') return wanted;
  const isRewritten = wanted.masquerade || wanted.hairpin.includes(answer.backend ?? '');
  expect({ where, masquerade: answer.masquerade, frontend: answer.frontend?.frontend, backend: ran.backend }).toEqual({
    ...{ where, masquerade: isRewritten, backend: answer.backend },
    frontend: `${hostPort(packet.destIP, packet.destPort)}/${packet.protocol}`,
  });
  if (!isRewritten) expect(ran.source, where).toBe(packet.sourceIP);
  return wanted;
}

/** All bytes of all maps, except for the scratch memory. */
function dump(): string {
  const { datapath } = loaded;
  const names = datapath.mapNames().filter((name) => name !== 'lb_scratch');
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
  return names
    .map(
      (name) =>
        `${name}\n${[...datapath.map(name).entries()]
          .map(([k, v]) => `${hex(k)} ${hex(v)}`)
          .sort()
          .join('\n')}`,
    )
    .join('\n');
}

test.for(semanticsCases)('$name', ({ cluster, packets }) => {
  const desired = desiredOf(cluster);
  const kernel = new Kernel(desired);
  for (const { packet, want } of packets) {
    loaded.forgetFlows();
    expect(expectAgreement(kernel, desired, packet)).toMatchObject(want);
  }
});

test(`${PACKETS} random packets against random Services have the results of the oracle (SEMANTICS_SEED=${seed})`, () => {
  const verdicts = new Map<string, number>();
  for (let round = 0; round < PACKETS / PACKETS_PER_CASE; round += 1) {
    const { cluster, packets } = randomCase(seed + round, PACKETS_PER_CASE);
    const desired = desiredOf(cluster);
    const kernel = new Kernel(desired);
    for (const packet of packets) {
      loaded.forgetFlows();
      const { verdict } = expectAgreement(kernel, desired, packet);
      verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
    }
  }
  // The random cases must produce every verdict often enough.
  for (const verdict of ['DNAT', 'REJECT', 'DROP', 'NONE']) expect(verdicts.get(verdict) ?? 0).toBeGreaterThan(PACKETS / 100);
});

test('explaining packets changes no byte of any map', () => {
  const { cluster, packets } = randomCase(seed, 200);
  const kernel = new Kernel(desiredOf(cluster));
  for (const packet of packets.slice(0, 100)) kernel.run(packet);
  const before = dump();
  for (const packet of packets) kernel.explain(packet);
  expect(dump()).toBe(before);
});
