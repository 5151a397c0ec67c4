// SPDX-License-Identifier: Apache-2.0
// Two clusters that differ in nothing but the proxy, before one API server: Sluice serves the one, the real kube-proxy in
// nftables mode the other. The same packets must get the same answers: who serves, what source the servers see, refusal or
// silence. The differences that we mean are listed, and each must occur.
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
/** Without what a server sees, and without silence. */
const without = (server: string, answer: string): string =>
  answer
    .split(', ')
    .filter((each) => !each.startsWith(`${server} sees `) && each !== 'timeout')
    .join();
const says = (answer: string, ...any: readonly string[]): boolean => any.some((each) => answer.split(', ').includes(each));

/** Differences on purpose; README has the same list. */
const meant: readonly Difference[] = [
  {
    why: 'hairpin: nothing is masqueraded for a Pod that reaches itself, it sees its own address or that of the Service',
    is: ({ shape, from, frontend }, { ours, theirs }) => {
      const itself = shape.isAffine === true ? 'one' : 'pod1';
      const [own, node] = [sourceOf(from)(familyOf(frontend)), sourceOf('node')(familyOf(frontend))];
      const isTheirs = shape.isAffine === true || says(theirs, `pod1 sees ${node}`);
      const isOurs = says(ours, `${itself} sees ${own}`, `${itself} sees ${frontend.address}`);
      return from === 'pod1' && isOurs && isTheirs && without(itself, ours) === without(itself, theirs);
    },
  },
  {
    why: 'hairpin by another node, policy Local: kube-proxy masquerades for Pods of its own node only; its packets are lost, or answered past it',
    is: ({ shape, from, frontend }, { ours, theirs }) => {
      const [own, other] = [sourceOf(from)(familyOf(frontend)), sourceOf('node-b')(familyOf(frontend))];
      const isThere = from === 'pod1' && frontend.where === 'NodePort of node-b' && isPolicyLocal(shape);
      const isSo = says(ours, `pod1 sees ${other}`) && !says(ours, 'timeout') && says(theirs, 'timeout', `pod1 sees ${own}`);
      return isThere && isSo && without('pod1', ours) === without('pod1', theirs);
    },
  },
  {
    why: 'the label service.kubernetes.io/headless on a Service: kube-proxy 1.37 heeds it on EndpointSlices only, before it did on both',
    is: ({ shape }, { ours, theirs }) => shape.name === 'called-headless' && ours === 'timeout' && theirs.includes('pod101 sees '),
  },
];

const sources = ['pod9', 'pod109', 'pod1', 'node', 'node-b', 'client'];
/** One of two answers does not come in as many once in 128 combinations that have two; in forty never. */
const TRIED = 8;
const ASKED = 40;
/** The second try of a TCP connection whose first refusal was lost on a socket in connect() comes after a second. */
const PATIENCE_MS = 1600;
const CLIENTS = 5;
const LEAST = 200;

let ours: KubeCluster;
let theirs: KubeCluster;
const combinations: Combination[] = [];

beforeAll(async () => {
  ours = await KubeCluster.start({ proxy: 'sluice' });
  theirs = await KubeCluster.start({ proxy: 'kube-proxy', twinOf: ours });
  const story = await Story.begin(ours);
  for (const cluster of [ours, theirs]) for (const node of ['node', 'node-b']) await cluster.serve(node);
  await makeShapes(story);
  for (const shape of shapes)
    for (const frontend of await frontendsOf(story, shape)) for (const from of sources) combinations.push({ shape, from, frontend });
  // What was made last is served by all of them.
  await story.apply(story.service('last', { selector: { app: 'three' } }));
  const [vip] = await story.clusterIPs('last');
  if (vip === undefined) throw new Error('a Service has a ClusterIP');
  const isServed = async (cluster: KubeCluster, from: string): Promise<boolean> =>
    Object.keys((await cluster.ask(from, { ...vip, count: 1, timeoutMs: 500 })).answers).length === 1;
  for (const cluster of [ours, theirs])
    for (const from of ['node', 'node-b']) await until('the last one is served', () => isServed(cluster, from));
});

afterAll(async () => {
  await theirs.close();
  await ours.close();
});

/** Whoever fails each time, and how: asked a few times, many of them at once. */
async function failuresOf(cluster: KubeCluster, asked: readonly Combination[]): Promise<Map<Combination, string>> {
  const failures = new Map<Combination, string>();
  const work = async (from: string, queue: Combination[]): Promise<void> => {
    const client = await Client.start(cluster.lab, from);
    for (let next = queue.pop(); next !== undefined; next = queue.pop()) {
      const { where: _, ...task } = next.frontend;
      const result = await client.ask({ ...task, count: TRIED, timeoutMs: PATIENCE_MS, isConnected: true });
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

/** Who serves, and the sources that they see, in a line; or the failure. One after the other: the servers count. */
async function answersOf(cluster: KubeCluster, asked: readonly Combination[]): Promise<Map<Combination, string>> {
  const answers = await failuresOf(cluster, asked);
  for (const combination of asked) {
    if (answers.has(combination)) continue;
    const { where: _, ...task } = combination.frontend;
    await cluster.seen();
    const { failures } = await cluster.ask(combination.from, { ...task, count: ASKED, timeoutMs: PATIENCE_MS });
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

const inWords = ({ shape, from, frontend }: Combination): string =>
  `${shape.name}: ${from} to its ${frontend.where}, ${frontend.protocol} ${frontend.address} port ${frontend.port}`;

test('Sluice and kube-proxy in nftables mode answer the same packets alike', { timeout: 300_000 }, async () => {
  expect(combinations.length).toBeGreaterThanOrEqual(LEAST);
  const isMeant = ({ combination, ...answers }: Different): boolean => meant.some((each) => each.is(combination, answers));
  let asked: readonly Combination[] = combinations;
  const explained: Different[] = [];
  let different: Different[] = [];
  // What should not differ is asked again: either of them may have been behind.
  for (let round = 0; round < 3 && asked.length > 0; round += 1) {
    const [mine, others] = await Promise.all([answersOf(ours, asked), answersOf(theirs, asked)]);
    const found = asked
      .map((combination) => ({ combination, ours: mine.get(combination) ?? '', theirs: others.get(combination) ?? '' }))
      .filter((each) => each.ours !== each.theirs);
    explained.push(...found.filter(isMeant));
    different = found.filter((each) => !isMeant(each));
    asked = different.map(({ combination }) => combination);
  }
  console.log(`${combinations.length} combinations, ${explained.length} answered otherwise on purpose`);
  expect(different.map(({ combination, ...answers }) => `${inWords(combination)}: ${answers.ours}; kube-proxy: ${answers.theirs}`)).toEqual(
    [],
  );
  // A difference that is no more is to be taken off the list.
  expect(meant.filter((each) => !explained.some(({ combination, ...answers }) => each.is(combination, answers)))).toEqual([]);
});
