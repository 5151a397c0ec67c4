// SPDX-License-Identifier: Apache-2.0
// Topologies (j) and (k): a route, the veth of a backend and the address of the node change while datagrams and a connection pass. Sluice
// must not be silent for longer than the control, and connections that survive with the control must survive.
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Lab } from '../support/lab/lab.ts';
import type { Cell } from './cells.ts';
import type { FlowResult } from './flow.ts';
import { knownChanges } from './known-failures.ts';
import { addSecondUplink, buildNodes } from './nodes.ts';
import { configure, World } from './world.ts';

const ROUNDS = 10;
/** Time in which the flows pass before a change, after it, and after the opposite change. */
const BEFORE_MS = 200;
const AFTER_MS = 600;
const FLOW_MS = BEFORE_MS + 2 * AFTER_MS;
/** Sluice may be silent for this time longer than the control. If the control is silent for too long, a comparison says nothing. */
const EXCESS_MS = 100;
const CONTROL_MS = 400;

interface Change {
  readonly name: string;
  readonly flow: Pick<Cell, 'from' | 'frontend' | 'backend'>;
  /** Makes the change, or the opposite change. */
  readonly apply: (lab: Lab, isBack: boolean) => void;
}

const changes: readonly Change[] = [
  {
    name: 'the route to the backend moves to another uplink',
    flow: { from: 'pod', frontend: 'ClusterIP', backend: 'far' },
    apply: (lab, isBack) => {
      const [IPv4, IPv6, device] = isBack ? ['10.0.0.254', 'fd00:10::254', 'eth0'] : ['10.8.0.254', 'fd00:8::254', 'eth1'];
      configure(
        lab,
        'node',
        `route replace 10.244.2.0/24 via ${IPv4} dev ${device} onlink\n -6 route replace fd00:244:2::/64 via ${IPv6} dev ${device} onlink`,
      );
    },
  },
  {
    name: 'the backend moves to another veth',
    flow: { from: 'outside', frontend: 'NodePort-Local', backend: 'near' },
    apply: (lab, isBack) => {
      const [host, inside] = isBack ? ['lxc1', 'eth0'] : ['lxc51', 'eth1'];
      configure(lab, 'node', `route replace 10.244.1.1/32 dev ${host}\n -6 route replace fd00:244:1::1/128 dev ${host}`);
      configure(
        lab,
        'pod1',
        `route replace default via 169.254.1.1 dev ${inside} onlink\n -6 route replace default via fe80::1 dev ${inside}`,
      );
    },
  },
  {
    name: 'the address of the node changes',
    flow: { from: 'pod', frontend: 'LoadBalancer', backend: 'far' },
    apply: (lab, isBack) => {
      const [add, remove] = isBack ? ['1', '11'] : ['11', '1'];
      // As after a gratuitous ARP. Otherwise the router may wait for a second before it asks for the new address again.
      const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'eth0')) as { address: string }[];
      for (const address of [`10.0.0.${add}`, `fd00:10::${add}`])
        configure(lab, 'outside', `neigh replace ${address} lladdr ${link?.address ?? ''} dev eth0 nud reachable`);
      configure(
        lab,
        'node',
        `address add 10.0.0.${add}/24 dev eth0
        address add fd00:10::${add}/64 dev eth0 nodad
        address delete 10.0.0.${remove}/24 dev eth0
        address delete fd00:10::${remove}/64 dev eth0`,
      );
      // The router must not reach the old address any more.
      for (const old of [`10.0.0.${remove}`, `fd00:10::${remove}`]) configure(lab, 'outside', `neigh flush to ${old} dev eth0`);
    },
  },
];

/** Two uplinks, and a second veth of the backend with the same addresses of its gateway. */
function build(lab: Lab): void {
  buildNodes(lab);
  addSecondUplink(lab, { IPv4: '10.8.0.1', IPv6: 'fd00:8::1' }, { IPv4: '10.8.0.254', IPv6: 'fd00:8::254' });
  // Masquerading must not find another address than that of eth0.
  configure(lab, 'node', 'address flush dev eth1 scope global');
  // Without it, the kernel removes the other addresses of a subnet together with the first one.
  lab.sysctl('node', 'net.ipv4.conf.all.promote_secondaries', '1');
  configure(lab, 'node', `link add lxc51 type veth peer name eth1 netns ${lab.netns('pod1')}\n link set lxc51 up`);
  // Packets may arrive by a device that the route has just left.
  for (const device of ['eth0', 'eth1', 'lxc1', 'lxc51']) lab.sysctl('node', `net.ipv4.conf.${device}.rp_filter`, '2');
  configure(lab, 'pod1', 'link set eth1 up\n address add fd00:244:1::1/128 dev eth1 nodad');
  const [link] = JSON.parse(lab.ip('node', '-j', 'link', 'show', 'dev', 'lxc51')) as { address: string }[];
  for (const gateway of ['169.254.1.1', 'fe80::1'])
    configure(lab, 'pod1', `neigh add ${gateway} lladdr ${link?.address ?? ''} dev eth1 nud permanent`);
}

const worlds: World[] = [];

beforeAll(async () => {
  const topology = { name: 'changes', podInterfaces: 'lxc', uplinks: 'eth0,eth1', build };
  worlds.push(...(await Promise.all([World.start(topology, false), World.start(topology, true)])));
  const [ours, control] = worlds;
  control?.loadRules();
  await ours?.startDaemon(false);
});

afterAll(() => Promise.all(worlds.map((world) => world.close())));

const families = ['IPv4', 'IPv6'] as const;

/** Flows of both families through a world, while a change and the opposite change are made there. */
async function flows(world: World, { flow, apply }: Change): Promise<FlowResult[]> {
  const results = world.flow(
    flow.from,
    families.map((family) => {
      const [tcp, udp] = (['tcp', 'udp'] as const).map((kind) => world.frontendOf({ socketLb: 'off', family, kind, ...flow }));
      return { address: tcp?.address ?? '', tcp: tcp?.port ?? 0, udp: udp?.port ?? 0, forMs: FLOW_MS };
    }),
  );
  await new Promise((resolve) => setTimeout(resolve, BEFORE_MS));
  apply(world.lab, false);
  await new Promise((resolve) => setTimeout(resolve, AFTER_MS));
  apply(world.lab, true);
  return results;
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? NaN;

/** What is wrong in a family, or undefined. `rounds`: the results with Sluice and with the control. */
function problemOf(rounds: readonly { readonly ours: FlowResult; readonly control: FlowResult }[]): string | undefined {
  const ours = median(rounds.map((round) => round.ours.silentMs));
  const control = median(rounds.map((round) => round.control.silentMs));
  console.log(`Median of ${rounds.length}: ${ours} ms without an answer, ${control} ms with the control`);
  if (control > CONTROL_MS) throw new Error(`The control is silent for ${control} ms.`);
  if (ours > control + EXCESS_MS) return `${ours} ms without an answer, ${control} ms with the control`;
  const broken = rounds.filter((round) => round.ours.connection !== 'ok' && round.control.connection === 'ok');
  return broken.length < rounds.length / 2 ? undefined : `${broken.length} connections failed: ${broken[0]?.ours.connection}`;
}

const none: FlowResult = { silentMs: FLOW_MS, connection: 'no result' };

test.for(changes)('$name', async (change) => {
  const rounds: { ours: FlowResult[]; control: FlowResult[] }[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const [mine, others] = await Promise.all(worlds.map((world) => flows(world, change)));
    rounds.push({ ours: mine ?? [], control: others ?? [] });
  }
  const problems = families.flatMap((family, n) => {
    const problem = problemOf(rounds.map((round) => ({ ours: round.ours[n] ?? none, control: round.control[n] ?? none })));
    return problem === undefined ? [] : [`${family}: ${problem}`];
  });
  if (change.name in knownChanges) expect(problems, 'passes, but is listed as a known failure').not.toEqual([]);
  else expect(problems).toEqual([]);
});
