// SPDX-License-Identifier: Apache-2.0
// Kubernetes' disruptive end-to-end tests, under their upstream names: the proxy or the API server is killed and restarted.
// Existing Services must stay reachable, and Services created afterwards must be served.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { KubeCluster } from './kube-cluster.ts';
import { Story } from './story.ts';

let cluster: KubeCluster;
const both = { servers: ['pod1', 'pod101'] };

beforeAll(async () => {
  cluster = await KubeCluster.start();
});

afterAll(() => cluster.close());

test('should work after restarting kube-proxy', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('before'));
  await story.run('before', ['pod1', 'pod101']);
  const vips = await story.clusterIPs('before');
  await story.served('pod9', vips, both);
  for (const node of ['node-a', 'node-b'] as const) await cluster.restartProxy(node);
  // A ready proxy has read all objects, so every Service must be reachable at once.
  for (const vip of vips) expect((await cluster.ask('pod9', vip)).failures).toEqual({});
  await story.apply(story.service('after', { selector: { app: 'before' } }));
  for (const from of ['pod9', 'pod109']) {
    await story.served(from, vips, both);
    await story.served(from, await story.clusterIPs('after'), both);
  }
});

test('should work after restarting apiserver', async () => {
  const story = await Story.begin(cluster);
  await story.apply(story.service('before'));
  await story.run('before', ['pod1', 'pod101']);
  const vips = await story.clusterIPs('before');
  await story.served('pod9', vips, both);
  await cluster.plane.killApiServer();
  for (const vip of vips) expect((await cluster.ask('pod9', vip)).failures).toEqual({});
  cluster.plane.startApiServer();
  await cluster.plane.ready();
  await story.apply(story.service('after', { selector: { app: 'before' } }));
  for (const from of ['pod9', 'pod109']) {
    await story.served(from, vips, both);
    await story.served(from, await story.clusterIPs('after'), both);
  }
});

test('a proxy applies the changes that were made while it was not running', async () => {
  const story = await Story.begin(cluster);
  const names = ['kept', 'changed', 'gone'];
  await story.apply(...names.map((name) => story.service(name)));
  for (const name of names) await story.run(name, ['pod1'], { name: `${name}-pod1` });
  const [kept = [], changed = [], gone = []] = await Promise.all(names.map((name) => story.clusterIPs(name)));
  for (const vips of [kept, changed, gone]) await story.served('pod9', vips, { servers: ['pod1'] });
  await cluster.stopProxy('node-a');
  await story.kubectl(['delete', 'service', 'gone']);
  await story.run('changed', ['pod101']);
  await cluster.kubelet.end(story.namespace, 'changed-pod1');
  await story.apply(story.service('new', { selector: { app: 'kept' } }));
  await story.served('pod109', changed, { servers: ['pod101'] });
  await story.served('pod9', changed, { servers: ['pod1'] });
  await cluster.restartProxy('node-a');
  await story.silent('pod9', gone);
  await story.served('pod9', changed, { servers: ['pod101'] });
  for (const vips of [kept, await story.clusterIPs('new')]) await story.served('pod9', vips, { servers: ['pod1'] });
});
