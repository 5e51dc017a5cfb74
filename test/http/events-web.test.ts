// Guards the web path: a Request in, a Response out, its body read by whoever hosts us. The body's reader sets the
// pace: nothing is taken for it before it asks, and giving it up, or never reading it, lets go of the subscriber.
import { Readable } from 'node:stream';
import { connect, type Sluice } from 'sluice';
import { createHandler, type HandlerOptions, type SluiceHandler } from 'sluice/http';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { useDatabase } from '../support/database.ts';
import { nextMessage, until } from '../support/diagnostics.ts';
import { anyone } from '../support/serve.ts';
import { FrameReader } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
let handler: SluiceHandler;
let name: string;
let names = 0;

beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, windowEvents: 5 });
  handler = make();
});
afterAll(async () => {
  await handler.close();
  await sluice.close();
});
beforeEach(async () => {
  name = `web ${(names += 1)}`;
  await sluice.stream(name).appendMany([{ data: 1 }, { data: 2 }, { data: 3 }]);
});

const make = (options: Partial<HandlerOptions> = {}): SluiceHandler =>
  createHandler(sluice, { authorize: anyone, ...options });
const ask = (query = 'after=start', of = handler): Promise<Response> =>
  of(new Request(`http://host.example/v1/events?stream=${encodeURIComponent(name)}&${query}`));
const bodyOf = async (query?: string, of?: SluiceHandler): Promise<ReadableStream<Uint8Array>> => {
  const { status, body } = await ask(query, of);
  expect(status).toBe(200);
  return body!;
};
const closing = (reason: string): Promise<unknown> =>
  nextMessage<{ reason: string }>('sluice:sse.closed', (message) => message.reason === reason);

/** Reads a body frame by frame, and only as far as it is asked to. */
class BodyReader extends FrameReader {
  readonly reader: ReadableStreamDefaultReader<Uint8Array>;
  done = false;

  constructor(body: ReadableStream<Uint8Array>) {
    super();
    this.reader = body.getReader();
  }
  /** One chunk; its events. */
  async chunk(): Promise<number[]> {
    const known = this.offsets.length;
    const { done, value } = await this.reader.read();
    this.done = done;
    if (value) this.feed(value);
    return this.offsets.slice(known);
  }
  async received(count: number): Promise<void> {
    while (this.offsets.length < count && !this.done) await this.chunk();
  }
  get offsets(): number[] {
    const events = this.frames.filter(({ event, data }) => event === undefined && data !== undefined);
    return events.map(({ data = '' }) => Number((JSON.parse(data) as { offset: string }).offset));
  }
}

describe('reading', () => {
  test('the opening frames come with the first read, then replay, then live events', async () => {
    const body = new BodyReader(await bodyOf());
    expect(await body.chunk()).toEqual([]);
    expect(body.frames.map((frame) => Object.keys(frame))).toEqual([['retry'], ['event', 'data'], ['id']]);
    await body.received(3);
    const live = body.chunk(); // waits
    await sluice.stream(name).append(4);
    expect(await live).toEqual([4]);
    await body.reader.cancel();
  });

  test('the start is fixed when the response is there, not when it is first read', async () => {
    const body = new BodyReader(await bodyOf('after=end'));
    await sluice.stream(name).append(4);
    await body.received(1);
    expect(body.offsets).toEqual([4]);
    await body.reader.cancel();
  });

  test('I7: nothing is taken while nobody reads, and nothing is lost', async () => {
    const opening = new BodyReader(await bodyOf());
    await opening.chunk();
    const body = new BodyReader(await bodyOf());
    await body.received(3);
    const other = new BodyReader(await bodyOf());
    for (let n = 4; n <= 40; n += 1) {
      await sluice.stream(name).append(n);
      await other.received(n); // the tail has handed it out
    }
    // They had not asked: so the next read brings what the stream holds now, in one chunk, and not what was queued.
    const all = Array.from({ length: 40 }, (_, index) => index + 1);
    expect(await opening.chunk()).toEqual(all);
    expect(await body.chunk()).toEqual(all.slice(3));
    await opening.reader.cancel();
    await body.reader.cancel();
    await other.reader.cancel();
  });

  test('several reads at once are answered one after another', async () => {
    const body = new BodyReader(await bodyOf());
    await body.received(3);
    const reads = [body.chunk(), body.chunk(), body.chunk(), body.chunk()];
    for (let n = 4; n <= 7; n += 1) await sluice.stream(name).append(n);
    await Promise.all(reads);
    await body.received(7);
    expect(body.offsets).toEqual([1, 2, 3, 4, 5, 6, 7]);
    await body.reader.cancel();
  });

  test('through Readable.fromWeb, as hosts on Node do', async () => {
    const seen = new FrameReader();
    const closed = closing('client');
    const stream = Readable.fromWeb((await bodyOf()) as Parameters<typeof Readable.fromWeb>[0]);
    stream.on('data', (bytes: Buffer) => seen.feed(bytes));
    await until(() => seen.messages.length >= 4);
    await sluice.stream(name).append(4);
    await until(() => seen.messages.length >= 5);
    stream.destroy();
    await closed;
    expect(seen.messages.slice(1).map(({ data }) => (JSON.parse(data) as { data: number }).data)).toEqual([
      1, 2, 3, 4,
    ]);
  });

  test('through a response that was made anew around the body', async () => {
    const given = await ask();
    const own = new Response(given.body, { headers: [...given.headers, ['x-own', '1']] });
    const body = new BodyReader(own.body!);
    await body.received(3);
    expect(body.offsets).toEqual([1, 2, 3]);
    await body.reader.cancel();
  });

  test('through a copy: the slower half of a tee loses nothing', async () => {
    const [one, two] = (await bodyOf()).tee().map((half) => new BodyReader(half)) as [BodyReader, BodyReader];
    await one.received(3);
    await sluice.stream(name).append(4);
    await one.received(4);
    await two.received(4);
    expect([one.offsets, two.offsets]).toEqual([
      [1, 2, 3, 4],
      [1, 2, 3, 4],
    ]);
    await Promise.all([one.reader.cancel(), two.reader.cancel()]);
  });
});

describe('letting go', () => {
  test.each([
    ['before its first read', 0],
    ['after the opening', 1],
    ['while it is live', 2],
  ])('cancelled %s: the subscriber is free', async (_, reads) => {
    const body = new BodyReader(await bodyOf());
    for (let read = 0; read < reads; read += 1) await body.chunk();
    const closed = closing('client');
    await body.reader.cancel();
    await closed;
    await sluice.stream(name).append('nobody is there');
  });

  test('cancelled while a read waits', async () => {
    const body = new BodyReader(await bodyOf('after=end'));
    await body.chunk();
    const waiting = body.chunk();
    const closed = closing('client');
    await body.reader.cancel();
    await Promise.all([closed, waiting]);
    expect(body.done).toBe(true);
  });

  test('I7: a response that nobody ever reads is dropped past the deadline, and is empty then', async () => {
    const brisk = make({ limits: { heartbeatMs: 10, drainTimeoutMs: 30 } });
    const closed = closing('slow');
    const { body } = await ask('after=start', brisk);
    await closed;
    expect(await new Response(body).text()).toBe('');
    await brisk.close();
  });

  test('I7: a body that is no longer read fails past the deadline; one that is read goes on', async () => {
    const brisk = make({ limits: { heartbeatMs: 10, drainTimeoutMs: 30 } });
    const reading = new BodyReader(await bodyOf('after=start', brisk));
    const read = reading.received(4);
    const stalled = new BodyReader(await bodyOf('after=start', brisk));
    await stalled.received(3);
    await closing('slow');
    await sluice.stream(name).append(4);
    await read;
    expect(reading.offsets).toEqual([1, 2, 3, 4]);
    const readOn = async (): Promise<void> => {
      while (!stalled.done) await stalled.chunk();
    };
    await expect(readOn()).rejects.toThrow('the connection was dropped');
    await reading.reader.cancel();
    await brisk.close();
  });

  test('a database that is slow to answer is not held against the client', async () => {
    const brisk = make({ limits: { heartbeatMs: 10, drainTimeoutMs: 30 } });
    const brief = make({ limits: { heartbeatMs: 10, maxConnectionMs: 30 } });
    const live = new BodyReader(await bodyOf('after=end', brisk));
    const read = live.received(1);
    const beats = (): number => live.frames.filter(({ comment }) => comment !== undefined).length;
    const holder = await db.pool.connect();
    await holder.query('begin; lock table sluice.streams');
    // Read as soon as it is there, which may be before the lock is known to be gone.
    const opening = bodyOf('after=start', brisk).then(async (bytes) => {
      const body = new BodyReader(bytes);
      await body.received(3);
      return body;
    });
    const another = bodyOf('after=start', brief);
    const past = beats() + 10; // each at least 10 ms after the one before
    await until(() => beats() >= past);
    await holder.query('rollback');
    holder.release();
    const body = await opening;
    expect(body.offsets).toEqual([1, 2, 3]);
    await body.reader.cancel();
    await (await another).cancel();
    await sluice.stream(name).append(4);
    await read;
    await live.reader.cancel();
    await brisk.close();
    await brief.close();
  });

  test('the end of the stream ends the body', async () => {
    const body = new BodyReader(await bodyOf());
    await body.received(3);
    const last = body.chunk();
    await sluice.deleteStream(name);
    await last;
    expect(body.done).toBe(true);
  });

  test('the handler closing: goodbye, then the end', async () => {
    const own = make();
    const body = new BodyReader(await bodyOf('after=start', own));
    await body.received(3);
    await own.close();
    while (!body.done) await body.chunk();
    expect(body.frames.at(-1)).toEqual({ event: 'sluice:shutdown', data: expect.any(String) });
  });
});

test('a stream that cannot be read on ends as failed, which is told', async () => {
  const body = new BodyReader(await bodyOf());
  await db.query('alter table sluice.events rename to away');
  const [told, closed] = [
    nextMessage<{ where: string }>('sluice:background.failed', ({ where }) => where === 'event stream'),
    closing('failed'),
  ];
  while (!body.done) await body.chunk();
  await db.query('alter table sluice.away rename to events');
  expect(await told).toMatchObject({ error: { code: 'schema_mismatch' } });
  await closed;
});
