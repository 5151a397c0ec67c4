// SPDX-License-Identifier: Apache-2.0
// The double of the API server as a process that holds what orders.ts is told to: for clusters that a real API server cannot
// carry on this machine, and where one would take the CPUs. Argument: where to write a kubeconfig. Its first line: "ready".
import { serveDouble } from '../../support/double/serve.ts';
import { obeyOrders, type ScaleObject } from './orders.ts';

const { api, close } = await serveDouble(process.argv[2] ?? '');
process.stdout.write('ready\n');

const put = (object: ScaleObject): Promise<void> => {
  api.put(object);
  return Promise.resolve();
};

await obeyOrders({ create: put, replace: put });
await close();
