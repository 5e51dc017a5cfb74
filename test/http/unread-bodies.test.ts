// Guards connections whose requests have bodies that nobody reads, or reads to the end: they go on with what stands behind
// the body, and whoever leaves is noticed.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { connect as dial, type AddressInfo, type Socket } from 'node:net';
import { connect, type Sluice } from 'sluice';
import { createHandler, type RequestHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { anyone } from '../support/serve.ts';

const db = useDatabase();
const BODY = 'x'.repeat(2_000_000);
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  await sluice.stream('known').append(1);
  return () => sluice.close();
});

const open = async (handler: RequestHandler): Promise<{ socket: Socket; heard: () => string }> => {
  const server = createServer(toNodeListener(handler)).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = dial((server.address() as AddressInfo).port, '127.0.0.1');
  onTestFinished(() => {
    socket.destroy();
    server.close();
  });
  let heard = '';
  socket.setEncoding('utf8').on('data', (text) => (heard += String(text)));
  return { socket, heard: () => heard };
};

const withBody = (line: string): string =>
  `${line} HTTP/1.1\r\nhost: x\r\ncontent-length: ${BODY.length}\r\n\r\n${BODY}`;
const NEXT = 'GET /livez HTTP/1.1\r\nhost: x\r\n\r\n';

test.each(['POST /v1/events', 'PUT /livez', 'POST /nothing'])(
  '%s: what stands behind the body is answered',
  async (line) => {
    const handler = createHandler(sluice, { authorize: anyone });
    onTestFinished(() => handler.close());
    const { socket, heard } = await open(handler);
    socket.write(withBody(line) + NEXT);
    await until(() => heard().includes('HTTP/1.1 200'));
    expect(heard()).toMatch(/^HTTP\/1.1 40[45]/);
  },
);

test('so it is where a part of the body was read', async () => {
  const { socket, heard } = await open(async ({ method, body }) => {
    if (method === 'GET') return new Response('next');
    for await (const chunk of body ?? []) {
      if ((chunk as Uint8Array).length > 0) break;
    }
    return new Response('too large', { status: 413 });
  });
  socket.write(withBody('POST /') + NEXT);
  await until(() => heard().includes('next'));
  expect(heard()).toMatch(/^HTTP\/1.1 413[^]*too large/);
});

test('I7: who has sent a body with a request for events, and leaves, is let go', async () => {
  const handler = createHandler(sluice, { authorize: anyone });
  onTestFinished(() => handler.close());
  const { socket, heard } = await open(handler);
  socket.write(withBody('GET /v1/events?stream=known&after=start'));
  await until(() => heard().includes('"offset":"1"'));
  socket.end();
  await until(() => handler.stats().connections === 0);
});
