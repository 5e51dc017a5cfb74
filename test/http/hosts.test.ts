// Guards that one handler serves event streams alike wherever it is mounted: delivered at once and uncompressed, resumed
// exactly, let go of when the client leaves, ended on shutdown, and refused in the same words.
import { connect as connectHttp2 } from 'node:http2';
import { once } from 'node:events';
import { connect, type Sluice } from 'sluice';
import { createHandler, type SluiceHandler } from 'sluice/http';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { hosts, startHttp2, startRuntime, type Host, type Runtime } from '../support/hosts.ts';
import { anyone } from '../support/serve.ts';
import { FrameReader, openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
});
afterAll(() => sluice.close());

let made = 0;
const newStream = async (): Promise<string> => {
  const name = `hosted ${(made += 1)}`;
  await sluice.createStream(name);
  return name;
};
const urlOf = ({ origin }: Host, stream: string): string =>
  `${origin}/v1/events?stream=${encodeURIComponent(stream)}`;

/** Live, lost, and resumed: each event once. */
const deliversAndResumes = async (host: Host): Promise<void> => {
  const name = await newStream();
  const url = urlOf(host, name);
  // What compressing middleware would hold back until it has enough.
  const client = await openSse(url, { headers: { 'accept-encoding': 'gzip, deflate, br' } });
  await client.opened();
  expect(client.response.headers['content-encoding']).toBeUndefined();
  for (const n of [1, 2]) {
    await sluice.stream(name).append(n);
    await client.received(n);
  }
  client.close();
  await sluice.stream(name).append(3);
  using again = await openSse(url, { lastEventId: client.lastEventId });
  await again.received(1);
  await sluice.stream(name).append(4);
  await again.received(2);
  expect([...client.offsets, ...again.offsets]).toEqual([1, 2, 3, 4]);
};

const refuses = async (host: Host): Promise<void> => {
  const answer = await fetch(`${host.origin}/v1/events?stream=`, { headers: { accept: '*/*' } });
  expect(answer.status).toBe(400);
  expect(answer.headers.get('content-type')).toContain('application/problem+json');
  expect(await answer.json()).toMatchObject({ status: 400, code: 'name_invalid' });
  expect((await fetch(`${host.origin}/livez`)).status).toBe(200);
};

describe.each(Object.entries(hosts))('%s', (_, start) => {
  let handler: SluiceHandler;
  let host: Host;
  beforeAll(async () => {
    handler = createHandler(sluice, { authorize: anyone });
    host = await start(handler);
    return async () => {
      await handler.close();
      await host[Symbol.asyncDispose]();
    };
  });

  test('I2: delivers at once, uncompressed, and resumes', () => deliversAndResumes(host));
  test('refuses as anywhere', () => refuses(host));

  test('I7: lets go of a client that left', async () => {
    const client = await openSse(urlOf(host, await newStream()));
    await client.opened();
    const closed = nextMessage<{ reason: string }>('sluice:sse.closed');
    client.close();
    expect((await closed).reason).toBe('client');
  });

  test('I11: says goodbye on shutdown', async () => {
    using client = await openSse(urlOf(host, await newStream()));
    await client.opened();
    await handler.close();
    await client.ended();
    expect(client.control('shutdown')).toHaveLength(1);
  });
});

test('HTTP/2: twenty event streams on one connection', async () => {
  const handler = createHandler(sluice, { authorize: anyone });
  await using host = await startHttp2(handler);
  const session = connectHttp2(host.origin);
  const names = await Promise.all(Array.from({ length: 20 }, newStream));
  const readers = await Promise.all(
    names.map(async (name) => {
      const stream = session.request({
        ':path': new URL(urlOf(host, name)).pathname + new URL(urlOf(host, name)).search,
      });
      const reader = new FrameReader();
      stream.on('data', (bytes: Buffer) => reader.feed(bytes));
      const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
      expect(headers[':status']).toBe(200);
      return reader;
    }),
  );
  await until(() => readers.every(({ lastEventId }) => lastEventId !== ''));
  await Promise.all(names.map((name) => sluice.stream(name).append(1)));
  await until(() => readers.every(({ messages }) => messages.length === 2)); // the opening, and the event
  session.close();
  await handler.close();
  session.destroy();
});

describe.each<Runtime>(['Bun', 'Deno'])('%s', (runtime) => {
  test('I2: delivers at once and resumes; refuses as anywhere; ends by itself', async (context) => {
    await using host = await startRuntime(context, runtime, db.connectionString);
    await deliversAndResumes(host);
    await refuses(host);
  });
});
