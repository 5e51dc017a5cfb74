// Guards the server against clients that no browser is: they close half of a connection, send a body that nobody reads,
// take back what they asked for, choose names that every object has, and are thrown out in the middle of a replay.
import { once } from 'node:events';
import { connect as connectHttp2, constants, createServer, type ClientHttp2Stream } from 'node:http2';
import { connect as dial, type AddressInfo, type Socket } from 'node:net';
import { connect, type Sluice } from 'sluice';
import { createClient } from 'sluice/client';
import { createHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { anyone, serve } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';
import { collect } from '../support/stream-reader.ts';
import { upTo } from '../support/up-to.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
  await sluice.createStream('known');
});
afterAll(() => sluice.close());

/** Asks for the stream by hand, and waits until it is subscribed. */
const ask = async (port: number, more: string, body = ''): Promise<Socket> => {
  const socket = dial({ port, host: '127.0.0.1', allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => {}); // what is sent to a connection that was closed
  let text = '';
  socket.on('data', (bytes) => (text += String(bytes)));
  socket.write(`GET /v1/events?stream=known HTTP/1.1\r\nhost: x\r\n${more}\r\n${body}`);
  await until(() => text.includes('\nid: '));
  return socket;
};

test('I7: who closes half of its connection is let go, whatever is on its way to it', async () => {
  await using serving = await serve(sluice, { limits: { maxConnections: 1 } });
  const failures: unknown[] = [];
  serving.server.on('clientError', (error) => failures.push(error));
  const socket = await ask(serving.port, '');
  const writing = Promise.all(upTo(100).map(async (n) => sluice.stream('known').append(n)));
  socket.end();
  await writing;
  await until(() => serving.handler.stats().ended.client === 1);
  using next = await openSse(serving.url('known'));
  await next.opened();
  expect(failures).toEqual([]);
});

test.each([
  ['has a length', 'content-length: 9000000\r\n', 'x'.repeat(900_000)],
  ['comes in chunks', 'transfer-encoding: chunked\r\n', `fffff\r\n${'x'.repeat(900_000)}`],
])('I7: who goes while its body, which %s, is not read is let go', async (_, header, body) => {
  await using serving = await serve(sluice, { limits: { heartbeatMs: 20, maxConnections: 1 } });
  const socket = await ask(serving.port, header, body);
  socket.destroy();
  await until(() => serving.handler.stats().ended.client === 1);
});

test('I7: what is taken back as soon as it was asked for leaves nothing, over HTTP/2', async () => {
  const handler = createHandler(sluice, { authorize: anyone, limits: { maxConnections: 50 } });
  const server = createServer(toNodeListener(handler) as never).listen(0);
  await once(server, 'listening');
  const session = connectHttp2(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
  const request = (): ClientHttp2Stream => session.request({ ':path': '/v1/events?stream=known' });
  for (const n of upTo(150)) {
    const stream = request().on('error', () => {});
    if (n % 3 === 0) stream.close(constants.NGHTTP2_CANCEL);
    else stream.once('ready', () => setImmediate(() => stream.close(constants.NGHTTP2_CANCEL)));
    if (n % 50 === 0) await new Promise((done) => setImmediate(done));
  }
  // Each place is given back: one after another, as many as there are can be taken at once.
  await until(async () => {
    const stream = request();
    const [headers] = (await once(stream, 'response')) as [{ ':status': number }];
    if (headers[':status'] !== 200) stream.close();
    return handler.stats().connections === 50;
  });
  session.close();
  await handler.close();
  server.close();
});

test('names that every object has are names', async () => {
  const name = '__proto__';
  await sluice.createStream(name);
  await using serving = await serve(sluice, {
    authorize: async () => ({ principal: name, context: {}, presence: { id: name } }),
    audiences: {},
  });
  const odd: unknown = JSON.parse('{"__proto__":{"odd":1},"constructor":{"prototype":{"odd":1}}}');
  const client = createClient({ url: `${serving.origin}/v1/events` });
  onTestFinished(() => client.close());
  const subscription = client.subscribe([name, 'known'], { presence: odd });
  const reader = collect(subscription);
  const { items } = reader;
  await subscription.ready;
  const stream = sluice.stream(name);
  for (const visibleTo of ['constructor', name, 'toString']) await stream.append('hidden', { visibleTo });
  await stream.append(odd, { type: 'toString', key: name, headers: { constructor: 'x' } });
  await stream.broadcast(odd, { type: name });
  await reader.received(1);
  const find = (kind: string): unknown =>
    items.findLast((item) => item.kind === kind && item.stream === name);
  await until(() => JSON.stringify(find('presence')).includes('"id"') && find('broadcast') !== undefined);
  expect(find('event')).toMatchObject({ offset: 4n, type: 'toString', key: name });
  expect((find('event') as { data: unknown }).data).toEqual(odd);
  expect((find('broadcast') as { data: unknown }).data).toEqual(odd);
  expect(find('presence')).toMatchObject({ members: [{ id: name, state: odd }] });
  expect(serving.handler.stats().streams.map((each) => each.stream)).toContain(name);
  expect({} as Record<string, unknown>).not.toHaveProperty('odd');
});

test('who is thrown out in the middle of a replay gets what was on its way, and nothing more', async () => {
  const events = upTo(200).map((n) => ({ data: `${n} ${'x'.repeat(100_000)}` }));
  for (let from = 0; from < events.length; from += 40)
    await sluice.stream('long').appendMany(events.slice(from, from + 40));
  await using serving = await serve(sluice, {
    authorize: async () => ({ principal: 'ann' }),
    revocations: 'revoked',
  });
  using client = await openSse(serving.url('long', 'after=start'));
  await client.opened();
  client.pause();
  await until(() => serving.responses[0]!.socket!.writableLength > 0);
  await serving.handler.revoke({ principal: 'ann' });
  expect(serving.handler.stats().ended.revoked).toBe(1);
  client.resume();
  await client.ended();
  const { offsets } = client;
  expect(offsets).toEqual(upTo(offsets.length));
  expect(offsets.length).toBeLessThan(200);
});
