// SPDX-License-Identifier: Apache-2.0
// Compares `sluice explain` with real traffic: 1,000 random packets are each explained and then sent. The result must match the
// explanation: the verdict is the same, and the backend is the named one or, if none is named, one of the candidates. Explaining
// must not change anything.
import { spawnSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { askExplain } from '../../daemon/cli/client.ts';
import type { Explanation, Origin, PacketQuery } from '../../daemon/model/explanation.ts';
import { seededRandom } from '../support/fake-clock.ts';
import { Daemon, service, slices, vips } from '../support/lab/daemon.ts';
import { Lab, nodeAddresses, outsideAddresses, podAddresses } from '../support/lab/lab.ts';
import { Client, Server } from '../support/lab/peers.ts';

const PACKETS = 500;
const SILENCE_MS = 200;
const seed = Number(process.env['EXPLAIN_SEED'] ?? Date.now() % 1_000_000);
type Family = keyof typeof vips;

const addressesOf = (a: string): Record<Family, string> => ({ IPv4: `10.96.0.${a}`, IPv6: `fd00:96::${a}` });
const external = { IPv4: '198.51.100.9', IPv6: '2001:db8::9' };
const clients: readonly { origin: Origin; netns: string; address: Record<Family, string> }[] = [
  { origin: 'pod', netns: 'pod9', address: podAddresses(9) },
  { origin: 'pod', netns: 'pod1', address: podAddresses(1) },
  { origin: 'external', netns: 'outside', address: outsideAddresses },
  { origin: 'node', netns: 'node', address: nodeAddresses },
];

/** A Service with more than a ClusterIP: `spec` and `status` are added to those of service(). */
function withMore(name: string, at: string, more: { spec?: object; status?: object }): object {
  const plain = service(name, addressesOf(at)) as { spec: object };
  return { ...plain, spec: { ...plain.spec, ...more.spec }, ...(more.status === undefined ? {} : { status: more.status }) };
}

const nodePorts = (first: number): object => ({
  type: 'NodePort',
  ports: [
    { name: 'web', port: 80, protocol: 'TCP', nodePort: first },
    { name: 'dns', port: 53, protocol: 'UDP', nodePort: first + 1 },
  ],
});

const ingress = { loadBalancer: { ingress: [{ ip: external.IPv4 }, { ip: external.IPv6 }] } };

describe.each([{ hasSocketLb: false }, { hasSocketLb: true }])('socket translation: $hasSocketLb', ({ hasSocketLb }) => {
  const lab = new Lab();
  const daemon = new Daemon(lab);
  const random = seededRandom(seed);
  const askers = new Map<string, Client>();
  const servers: Server[] = [];

  beforeAll(async () => {
    for (const number of [1, 2, 3, 9]) lab.addPod(number);
    for (const family of ['-4', '-6'] as const) {
      const [address, via] = family === '-4' ? [external.IPv4, nodeAddresses.IPv4] : [external.IPv6, nodeAddresses.IPv6];
      lab.ip('outside', family, 'route', 'add', address, 'via', via);
    }
    for (const number of [1, 2, 3]) servers.push(await Server.start(lab, { netns: `pod${number}`, name: `pod${number}` }));
    daemon.write('web.yaml', service('web'), ...slices('web', [1, 2, 3]));
    daemon.write('np.yaml', withMore('np', '20', { spec: nodePorts(30_080) }), ...slices('np', [1, 2]));
    daemon.write(
      'local.yaml',
      withMore('local', '25', { spec: { ...nodePorts(30_090), externalTrafficPolicy: 'Local' } }),
      ...slices('local', [2]),
    );
    const ranges = { type: 'LoadBalancer', loadBalancerSourceRanges: ['10.244.0.0/16', 'fd00:244::/32'] };
    daemon.write('lb.yaml', withMore('lb', '30', { spec: ranges, status: ingress }), ...slices('lb', [3, 2]));
    daemon.write('sticky.yaml', withMore('sticky', '40', { spec: { sessionAffinity: 'ClientIP' } }), ...slices('sticky', [1, 2, 3]));
    daemon.write('dead.yaml', service('dead', addressesOf('66')));
    daemon.write('node.yaml', {
      ...{ apiVersion: 'v1', kind: 'Node', metadata: { name: 'node-a' }, spec: { podCIDRs: ['10.244.1.0/24', 'fd00:244:1::/64'] } },
      status: { addresses: Object.values(nodeAddresses).map((address) => ({ type: 'InternalIP', address })) },
    });
    const extra = ['--cluster-cidr', '10.244.0.0/16,fd00:244::/32', '--service-cidr', '10.96.0.0/16,fd00:96::/64'];
    await daemon.start({ hasSocketLb, extra: [...extra, '--healthz-bind-address', 'off'] });
    for (const { netns } of clients) askers.set(netns, await Client.start(lab, netns));
  });
  afterAll(() => lab.close());

  const pick = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;

  function randomPacket(n: number): { question: PacketQuery; netns: string } {
    const { origin, netns, address } = pick(clients);
    const family = pick(['IPv4', 'IPv6'] as const);
    const protocol = pick(['TCP', 'UDP'] as const);
    const usual = protocol === 'TCP' ? 80 : 53;
    const [destIP, destPort] = pick<[string, number]>([
      [vips[family], usual],
      [vips[family], usual],
      [addressesOf('40')[family], usual],
      [addressesOf('20')[family], usual],
      [nodeAddresses[family], protocol === 'TCP' ? 30_080 : 30_081],
      [nodeAddresses[family], protocol === 'TCP' ? 30_090 : 30_091],
      [external[family], usual],
      [addressesOf('66')[family], usual],
      [vips[family], 99],
      [addressesOf('77')[family], usual],
      [podAddresses(2)[family], protocol === 'TCP' ? 8080 : 5353],
    ]);
    return { question: { protocol, sourceIP: address[family], sourcePort: 10_000 + n, destIP, destPort, from: origin }, netns };
  }

  /** Sends the packet. Returns the name of the server that answered, "refused", or "silent". */
  async function send({ question, netns }: ReturnType<typeof randomPacket>, verdict: string): Promise<string> {
    const result = await askers.get(netns)?.ask({
      ...{ protocol: question.protocol === 'TCP' ? 'tcp' : 'udp', address: question.destIP, port: question.destPort, count: 1 },
      // Only a connected UDP socket receives an ICMP error.
      ...{ localPort: question.sourcePort, timeoutMs: verdict === 'DROP' ? SILENCE_MS : 5000, isConnected: verdict === 'REJECT' },
    });
    const [answered] = Object.keys(result?.answers ?? {});
    const [failure = ''] = Object.keys(result?.failures ?? {});
    return answered ?? (failure === 'ECONNREFUSED' ? 'refused' : failure === 'timeout' ? 'silent' : failure);
  }

  test(`the results of ${PACKETS} packets match their explanations (EXPLAIN_SEED=${seed})`, async () => {
    const nameOf = (backend: string): string => `pod${/[.:](\d+)\]?:\d+$/.exec(backend)?.[1] ?? backend}`;
    const verdicts = new Map<string, number>();
    const at = { socket: daemon.socket, timeoutMs: 5000 };
    for (let n = 0; n < PACKETS; n += 1) {
      const packet = randomPacket(n);
      // Packets of the node to its own NodePort go through lo, where no tc program is attached (README, limits).
      if (!hasSocketLb && packet.netns === 'node' && packet.question.destPort >= 30_000) continue;
      const [answer] = (await askExplain(at, [packet.question])).explanations;
      if (answer === undefined) throw new Error('The daemon returned no explanation.');
      const did = await send(packet, answer.verdict);
      const where = `${JSON.stringify(packet)}: ${answer.verdict}, ${answer.reason}`;
      verdicts.set(answer.verdict, (verdicts.get(answer.verdict) ?? 0) + 1);
      if (answer.verdict === 'REJECT') expect(did, where).toBe('refused');
      else if (answer.verdict === 'DROP') expect(did, where).toBe('silent');
      else if (answer.verdict === 'NONE') expect(did, where).toBe('pod2');
      else if (answer.backend !== '') expect(did, where).toBe(nameOf(answer.backend));
      else expect(answer.candidates.map(nameOf), where).toContain(did);
    }
    for (const verdict of ['DNAT', 'REJECT', 'DROP', 'NONE']) expect(verdicts.get(verdict) ?? 0, verdict).toBeGreaterThan(PACKETS / 100);
  });

  test.for(['IPv4', 'IPv6'] as const)('the answer names the source address that the backend sees: %s', async (family) => {
    const source = outsideAddresses[family];
    const ends = { sourceIP: source, sourcePort: 9000, destIP: nodeAddresses[family], destPort: 30_080 };
    const question: PacketQuery = { protocol: 'TCP', ...ends, from: 'external' };
    const [answer] = (await askExplain({ socket: daemon.socket, timeoutMs: 5000 }, [question])).explanations;
    const text = answer?.steps.map((step) => step.text).join('\n') ?? '';
    const [, named] = /^the source becomes (\S+), /m.exec(text) ?? [];
    for (const server of servers) await server.fresh();
    expect(await send({ question, netns: 'outside' }, 'DNAT')).toMatch(/^pod[12]$/);
    const seen = await Promise.all(servers.map((server) => server.fresh()));
    expect(seen.flatMap((each) => Object.keys(each))).toEqual([named]);
  });

  const print = (...args: string[]): Explanation => JSON.parse(daemon.cli('explain', ...args, '-o', 'json')) as Explanation;
  const refused = (...args: string[]): string => {
    const [program = '', ...argv] = daemon.command('explain', ...args);
    const { status, stderr } = spawnSync(program, argv, { encoding: 'utf8' });
    expect(status).toBe(2);
    return stderr;
  };

  test('a packet that no program processes is not translated, and the answer says why', () => {
    lab.ip('node', 'link', 'add', 'spare0', 'type', 'veth', 'peer', 'name', 'spare1');
    const arriving = print('tcp', '8.8.8.8:1', `${nodeAddresses.IPv4}:30080`, '--iface', 'spare0');
    expect(arriving).toMatchObject({ verdict: 'NONE', frontend: { type: 'NodePort' } });
    expect(arriving.reason).toBe(
      'the packet is not translated because tc_uplink_in is not attached to spare0: set --uplinks, or read sluice status',
    );
    const local = print('sctp', nodeAddresses.IPv4, `${nodeAddresses.IPv4}:30080`);
    expect(local.steps[0]?.text).toContain('no program processes the packet: ');
    // A packet of the node to its own NodePort goes through lo.
    const own = print('tcp', nodeAddresses.IPv4, `${nodeAddresses.IPv4}:30080`);
    if (hasSocketLb) expect(own.verdict).toBe('DNAT');
    else {
      expect(own).toMatchObject({ verdict: 'NONE', frontend: { type: 'NodePort' } });
      expect(own.reason).toBe(
        'the packet is not translated because --socket-lb is off, and the packet goes through lo, where only the socket hooks (--socket-lb on) translate',
      );
    }
  });

  test('a device that does not exist is refused by its name', () => {
    const message = refused('tcp', '8.8.8.8:1', `${vips.IPv4}:80`, '--iface', 'lxc99');
    expect(message).toMatch(/^sluice: the device lxc99 does not exist \(did you mean lxc9\?\); this node has .*\n$/);
    expect(refused('tcp', '8.8.8.8:1', `${vips.IPv4}:80`, '--iface', 'nothing-like-it')).toMatch(
      /^sluice: the device nothing-like-it does not exist; this node has .*lo.*\n$/,
    );
  });

  test('a Service is found by its name in the tables of the daemon', () => {
    for (const name of ['web.default:web', 'web.default.svc.cluster.local:80', 'default/web:80']) {
      expect(print('tcp', podAddresses(9).IPv4, name)).toMatchObject({ frontend: { frontend: `${vips.IPv4}:80/TCP` } });
      expect(print('tcp', podAddresses(9).IPv6, name)).toMatchObject({ frontend: { frontend: `[${vips.IPv6}]:80/TCP` } });
    }
    expect(refused('tcp', podAddresses(9).IPv4, 'webb.default:80')).toContain('no Service default/webb with a ClusterIP is known');
    expect(refused('tcp', podAddresses(9).IPv4, 'web.default:81')).toContain('Service default/web has no TCP port 81: it has web (80/TCP)');
  });

  test('the answer distinguishes connect() from sendto()', () => {
    const hooks = (...args: string[]): string[] => print(...args).steps.flatMap(({ step, text }) => (step === 'hook' ? [text] : []));
    const udp = ['udp', nodeAddresses.IPv4, `${vips.IPv4}:53`];
    if (!hasSocketLb) {
      expect(hooks(...udp, '--call', 'connect')[0]).toBe('no socket hook translates connect(): --socket-lb is off');
      return;
    }
    expect(hooks(...udp)).toEqual([
      'the socket hook of a node process translates sendto() before there is a packet',
      'a socket that calls connect() first is left to the tc programs',
    ]);
    expect(hooks(...udp, '--call', 'connect')).toEqual([
      'the socket hook of a node process leaves connect() to the tc programs, unless it selects a backend on the node itself',
      'a socket that calls sendto() without connect() is translated by the socket hook too',
      'tc_uplink_out processes a packet from the node',
    ]);
    expect(hooks('tcp', nodeAddresses.IPv4, `${vips.IPv4}:80`)).toEqual([
      'the socket hook of a node process translates connect() before there is a packet',
    ]);
  });

  test('the answer names the source ranges that the daemon applies', () => {
    expect(print('tcp', '8.8.8.8:1', `${external.IPv4}:80`).reason).toBe(
      'the source 8.8.8.8 is in none of the loadBalancerSourceRanges (10.244.0.0/16), so the packet is dropped',
    );
  });

  test('the command prints one JSON object, in which unset fields are null', () => {
    expect(print('tcp', `${podAddresses(9).IPv4}:4242`, `${vips.IPv4}:80`)).toMatchObject({
      verdict: 'DNAT',
      frontend: { frontend: `${vips.IPv4}:80/TCP`, service: 'default/web:web', type: 'ClusterIP', scope: 'internal' },
      candidates: ['10.244.1.1:8080', '10.244.1.2:8080', '10.244.1.3:8080'],
      backend: hasSocketLb ? null : (expect.stringMatching(/^10\.244\.1\.[123]:8080$/) as string),
      masquerade: false,
    });
    expect(print('udp', podAddresses(9).IPv6, `[${vips.IPv6}]:54`)).toMatchObject({
      verdict: 'REJECT',
      frontend: null,
      backend: null,
      candidates: [],
    });
    expect(print('tcp', '8.8.8.8:1', `${external.IPv4}:80`)).toMatchObject({ verdict: 'DROP', frontend: { type: 'LoadBalancer' } });
  });
});
