// SPDX-License-Identifier: Apache-2.0
// Compares two clusters that share an API server and differ only in the proxy: Sluice in one, the real kube-proxy in nftables mode
// in the other. The same packets must have the same result: the servers that answer, the source addresses that they see, a refusal
// or no answer. Intended differences are listed, and each must occur.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Client } from '../support/lab/peers.ts';
import { until } from './api.ts';
import { KubeCluster } from './kube-cluster.ts';
import { type Frontend, frontendsOf, makeShapes, type Shape, shapes } from './shapes.ts';
import { sourceOf, Story } from './story.ts';

interface Combination {
  readonly shape: Shape;
  readonly from: string;
  readonly frontend: Frontend;
}

interface Answers {
  readonly ours: string;
  readonly theirs: string;
}

interface Difference {
  readonly why: string;
  readonly is: (combination: Combination, answers: Answers) => boolean;
}

const isPolicyLocal = ({ spec = {} }: Shape): boolean => 'externalTrafficPolicy' in spec && spec.externalTrafficPolicy === 'Local';
/** Removes the timeouts, and the source addresses that this server sees, from the answer. */
const without = (server: string, answer: string): string =>
  answer
    .split(', ')
    .filter((each) => !each.startsWith(`${server} sees `) && each !== 'timeout')
    .join();
const says = (answer: string, ...any: readonly string[]): boolean => any.some((each) => answer.split(', ').includes(each));

/** The intended differences. README has the same list. */
const intended: readonly Difference[] = [
  {
    why: 'hairpin: Sluice does not masquerade for a Pod that reaches itself; it sees its own address or that of the Service',
    is: ({ shape, from, frontend }, { ours, theirs }) => {
      const itself = shape.isAffine === true ? 'one' : 'pod1';
      const [own, node] = [sourceOf(from)(familyOf(frontend)), sourceOf('node')(familyOf(frontend))];
      const isTheirs = shape.isAffine === true || says(theirs, `pod1 sees ${node}`);
      const isOurs = says(ours, `${itself} sees ${own}`, `${itself} sees ${frontend.address}`);
      return from === 'pod1' && isOurs && isTheirs && without(itself, ours) === without(itself, theirs);
    },
  },
  {
    why: 'hairpin through another node, policy Local: kube-proxy masquerades only for Pods of its own node; the packets are lost, or the answer bypasses it',
    is: ({ shape, from, frontend }, { ours, theirs }) => {
      const [own, other] = [sourceOf(from)(familyOf(frontend)), sourceOf('node-b')(familyOf(frontend))];
      const isThere = from === 'pod1' && frontend.where === 'NodePort of node-b' && isPolicyLocal(shape);
      const isSo = says(ours, `pod1 sees ${other}`) && !says(ours, 'timeout') && says(theirs, 'timeout', `pod1 sees ${own}`);
      return isThere && isSo && without('pod1', ours) === without('pod1', theirs);
    },
  },
  {
    why: 'the label service.kubernetes.io/headless on a Service: kube-proxy 1.37 reads it on EndpointSlices only, earlier versions on both',
    is: ({ shape }, { ours, theirs }) => shape.name === 'called-headless' && ours === 'timeout' && theirs.includes('pod101 sees '),
  },
];

const sources = ['pod9', 'pod109', 'pod1', 'node', 'node-b', 'client'];
/** With two possible servers, 8 requests all reach the same one with a probability of 1 in 128; with 40 this does not happen. */
const TRIED = 8;
const ASKED = 40;
/** The kernel ignores an ICMP error that arrives while connect() is still running. It retransmits the SYN after a second. */
const TIMEOUT_MS = 1600;
const CLIENTS = 5;
const LEAST = 200;

let ours: KubeCluster;
let theirs: KubeCluster;
const combinations: Combination[] = [];

beforeAll(async () => {
  ours = await KubeCluster.start({ proxy: 'sluice' });
  theirs = await KubeCluster.start({ proxy: 'kube-proxy', sharedWith: ours });
  const story = await Story.begin(ours);
  for (const cluster of [ours, theirs]) for (const node of ['node', 'node-b']) await cluster.serve(node);
  await makeShapes(story);
  for (const shape of shapes)
    for (const frontend of await frontendsOf(story, shape)) for (const from of sources) combinations.push({ shape, from, frontend });
  // If the last Service is served, all earlier ones are served too.
  await story.apply(story.service('last', { selector: { app: 'three' } }));
  const [vip] = await story.clusterIPs('last');
  if (vip === undefined) throw new Error('The Service has no ClusterIP.');
  const isServed = async (cluster: KubeCluster, from: string): Promise<boolean> =>
    Object.keys((await cluster.ask(from, { ...vip, count: 1, timeoutMs: 500 })).answers).length === 1;
  for (const cluster of [ours, theirs])
    for (const from of ['node', 'node-b']) await until('the last Service is served', () => isServed(cluster, from));
});

afterAll(async () => {
  await theirs.close();
  await ours.close();
});

/**
 * Sends a few requests for each combination, with many combinations at the same time. Returns the combinations whose requests all
 * failed, with the error.
 */
async function failuresOf(cluster: KubeCluster, asked: readonly Combination[]): Promise<Map<Combination, string>> {
  const failures = new Map<Combination, string>();
  const work = async (from: string, queue: Combination[]): Promise<void> => {
    const client = await Client.start(cluster.lab, from);
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const { where: _, ...task } = next.frontend;
      const result = await client.ask({ ...task, count: TRIED, timeoutMs: TIMEOUT_MS, isConnected: true });
      for (const [failure, count] of Object.entries(result.failures)) if (count === TRIED) failures.set(next, failure);
    }
    await client.process.kill();
  };
  await Promise.all(
    sources.flatMap((from) => {
      const queue = asked.filter((each) => each.from === from);
      return Array.from({ length: CLIENTS }, () => work(from, queue));
    }),
  );
  return failures;
}

/**
 * One line for each combination: the servers and the source addresses that they see, or the error. The combinations are tried one
 * after the other, because the servers count all requests together.
 */
async function answersOf(cluster: KubeCluster, asked: readonly Combination[]): Promise<Map<Combination, string>> {
  const answers = await failuresOf(cluster, asked);
  for (const combination of asked) {
    if (answers.has(combination)) continue;
    const { where: _, ...task } = combination.frontend;
    await cluster.seen();
    const { failures } = await cluster.ask(combination.from, { ...task, count: ASKED, timeoutMs: TIMEOUT_MS });
    const line = Object.entries(await cluster.seen()).map(([server, clients]) => {
      const name = combination.shape.isAffine === true ? 'one' : server;
      return `${name} sees ${Object.keys(clients).sort().join(' ')}`;
    });
    answers.set(combination, [...line.sort(), ...Object.keys(failures).sort()].join(', '));
  }
  return answers;
}

type Different = Answers & { readonly combination: Combination };

const familyOf = ({ address }: Frontend): 'IPv4' | 'IPv6' => (address.includes(':') ? 'IPv6' : 'IPv4');

const nameOf = ({ shape, from, frontend }: Combination): string =>
  `${shape.name}: ${from} to its ${frontend.where}, ${frontend.protocol} ${frontend.address} port ${frontend.port}`;

test('Sluice and kube-proxy in nftables mode give the same results for the same packets', { timeout: 300_000 }, async () => {
  expect(combinations.length).toBeGreaterThanOrEqual(LEAST);
  const isIntended = ({ combination, ...answers }: Different): boolean => intended.some((each) => each.is(combination, answers));
  let asked: readonly Combination[] = combinations;
  const explained: Different[] = [];
  let different: Different[] = [];
  // Unexpected differences are tried again, because one of the proxies may have been late.
  for (let round = 0; round < 3 && asked.length > 0; round += 1) {
    const [mine, others] = await Promise.all([answersOf(ours, asked), answersOf(theirs, asked)]);
    const found = asked
      .map((combination) => ({ combination, ours: mine.get(combination) ?? '', theirs: others.get(combination) ?? '' }))
      .filter((each) => each.ours !== each.theirs);
    explained.push(...found.filter(isIntended));
    different = found.filter((each) => !isIntended(each));
    asked = different.map(({ combination }) => combination);
  }
  console.log(`Compared ${combinations.length} combinations. ${explained.length} have an intended difference.`);
  expect(different.map(({ combination, ...answers }) => `${nameOf(combination)}: ${answers.ours}; kube-proxy: ${answers.theirs}`)).toEqual(
    [],
  );
  // A listed difference that does not occur must be removed from the list.
  expect(intended.filter((each) => !explained.some(({ combination, ...answers }) => each.is(combination, answers)))).toEqual([]);
});
