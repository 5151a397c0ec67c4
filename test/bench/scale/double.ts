// SPDX-License-Identifier: Apache-2.0
// Runs the API server double as a process that carries out the orders of orders.ts. It is for clusters that are too large for
// a real API server on this machine. Argument: path of the kubeconfig to write. The process prints "ready" first. cluster.ts
// starts it.
import { serveDouble } from '../../support/double/serve.ts';
import { carryOutOrders, type ScaleObject } from './orders.ts';

const { api, close } = await serveDouble(process.argv[2] ?? '');
process.stdout.write('ready\n');

const put = (object: ScaleObject): Promise<void> => {
  api.put(object);
  return Promise.resolve();
};

await carryOutOrders({ create: put, replace: put });
await close();
