// SPDX-License-Identifier: Apache-2.0
// A TCP relay with faults, in its own process: LISTEN-ADDRESS LISTEN-PORT TO-PORT, where TO-PORT is on localhost. A line on stdin is a
// command. The answer is the number of connections that were open before the command. "go" relays. "cut" closes all connections.
// "refuse" closes all connections and accepts no new ones. "hang" accepts connections and data, but relays nothing. Used by tests with
// an API server.
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
    // The data is always read, because the sender would notice a full buffer.
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

async function run(command: string): Promise<void> {
  isHanging = command === 'hang';
  if (command === 'refuse') {
    server?.close();
    server = undefined;
  } else {
    await listen();
  }
  // Connections that hung have lost data and cannot continue.
  if (command !== 'hang') cut();
}

for await (const command of createInterface({ input: process.stdin })) {
  const connections = pairs.size;
  await run(command);
  process.stdout.write(`${connections}\n`);
}
