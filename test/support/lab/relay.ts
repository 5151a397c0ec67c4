// SPDX-License-Identifier: Apache-2.0
// A TCP relay that can be made to misbehave, in a process of its own: LISTEN-ADDRESS LISTEN-PORT TO-PORT (on localhost). Every
// line on stdin is an order, answered with the number of connections that it met: "go" relays, "cut" ends every connection,
// "refuse" also takes no new ones, "hang" takes them and everything that they send, and lets nothing through.
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

const [address = '', listenPort = '', toPort = ''] = process.argv.slice(2);
const pairs = new Set<readonly [Socket, Socket]>();
let isHanging = false;
let server: Server | undefined;

function relay(from: Socket): void {
  const to = createConnection({ host: '127.0.0.1', port: Number(toPort) });
  const pair = [from, to] as const;
  pairs.add(pair);
  for (const [one, other] of [pair, [to, from] as const]) {
    // Read in any case: a buffer that fills up would tell the sender.
    one.on('data', (bytes) => !isHanging && other.write(bytes));
    one.on('error', () => undefined);
    one.on('close', () => {
      other.destroy();
      pairs.delete(pair);
    });
  }
}

function cut(): void {
  for (const [from] of pairs) from.destroy();
}

async function listen(): Promise<void> {
  server ??= createServer(relay);
  if (!server.listening) await new Promise<void>((resolve) => server?.listen(Number(listenPort), address, resolve));
}

async function obey(order: string): Promise<void> {
  isHanging = order === 'hang';
  if (order === 'refuse') {
    server?.close();
    server = undefined;
  } else {
    await listen();
  }
  // What hung has lost bytes on its way: it cannot go on.
  if (order !== 'hang') cut();
}

for await (const order of createInterface({ input: process.stdin })) {
  const met = pairs.size;
  await obey(order);
  process.stdout.write(`${met}\n`);
}
