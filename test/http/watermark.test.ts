// Guards I2 between the render of a page and its connection: whatever happens in that time arrives once, in each of the
// page's streams, with a stock EventSource; also in a stream that did not exist when the page was rendered.
import { EventSource } from 'eventsource';
import { Client } from 'pg';
import type { Sluice } from 'sluice';
import { expect, test } from 'vitest';
import { encodePosition, NOT_YET } from '../../src/protocol/cursor.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';
import { createProxy } from '../support/proxy.ts';
import { serve, useServing, type Serving } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;

useServing(db, { fallbackPollMs: 100 }, (started) => ({ sluice, serving } = started));

const urlOf = (names: readonly string[], after: string, port = serving.port): string => {
  const streams = names.map((name) => `stream=${encodeURIComponent(name)}`).join('&');
  return `http://127.0.0.1:${port}/v1/events?${streams}&after=${after}`;
};

/** What a page gets: `stream offset` of each event, as it comes. */
const pageOn = (url: string): Disposable & { readonly got: readonly string[] } => {
  const source = new EventSource(url);
  const got: string[] = [];
  source.addEventListener('message', ({ data }) => {
    const { stream, offset } = JSON.parse(String(data)) as { stream: string; offset: string };
    got.push(`${stream} ${offset}`);
  });
  return { got, [Symbol.dispose]: () => source.close() };
};

test('I2: what happened between render and connect arrives once, in each stream', async () => {
  const names = ['shown', 'empty', 'quiet'];
  for (const name of names) await sluice.createStream(name);
  await sluice.stream('shown').appendMany([{ data: 1 }, { data: 2 }]);
  await sluice.stream('quiet').append(1);
  const after = await sluice.watermark(names);
  expect(encodeURIComponent(after)).toBe(after); // goes into a page and a URL as it is
  await sluice.stream('shown').append('between');
  await sluice.stream('empty').append('between');
  using page = pageOn(urlOf(names, after));
  await until(() => page.got.length >= 2);
  for (const name of names) await sluice.stream(name).append('live');
  await until(() => page.got.length >= 5);
  expect(page.got.toSorted()).toEqual(['empty 1', 'empty 2', 'quiet 2', 'shown 3', 'shown 4']);
});

test('I2: also what was published and not committed when the page was rendered', async () => {
  await sluice.createStream('open');
  const client = new Client({ connectionString: db.connectionString });
  await client.connect();
  await client.query('begin');
  await sluice.stream('open').publish('under way', { tx: client });
  await sluice.stream('open').append('overtakes it');
  const after = await sluice.watermark(['open']);
  await client.query('commit');
  await client.end();
  using page = pageOn(urlOf(['open'], after));
  await until(() => page.got.length >= 1);
  expect(page.got).toEqual(['open 2']);
});

test('I2: a connection that is lost resumes where it was, not at the watermark', async () => {
  await sluice.createStream('cut');
  await using brisk = await serve(sluice, { limits: { retryMs: 10 } });
  using proxy = await createProxy({ targetPort: brisk.port });
  const after = await sluice.watermark(['cut', 'shown']);
  await sluice.stream('cut').append('between');
  using page = pageOn(urlOf(['cut', 'shown'], after, proxy.port));
  await until(() => page.got.length >= 1);
  proxy.cut();
  await sluice.stream('cut').append('while away');
  await until(() => page.got.length >= 2);
  expect(page.got).toEqual(['cut 1', 'cut 2']);
});

test('a stream that came into being after the render is read from its beginning', async () => {
  await sluice.createStream('old');
  await sluice.stream('old').append('shown');
  const after = await sluice.watermark(['young', 'old']);
  expect(after.endsWith(`.${encodePosition(NOT_YET)}`)).toBe(true);
  await sluice.stream('young').appendMany([{ data: 1 }, { data: 2 }]);
  await sluice.stream('old').append('between');
  using page = pageOn(urlOf(['young', 'old'], after));
  await until(() => page.got.length >= 3);
  expect(page.got.toSorted()).toEqual(['old 2', 'young 1', 'young 2']);
  using alone = pageOn(urlOf(['young'], after));
  await until(() => alone.got.length >= 2);
  expect((await sluice.stream('young').read({ after })).events).toHaveLength(2); // and so it is outside of HTTP
  expect((await sluice.stream('old').read({ after })).events).toHaveLength(1);
  // The connection's own cursor knows all of them by name: nothing of "not yet" is left in it.
  using client = await openSse(urlOf(['young', 'old'], after));
  await client.received(3);
  expect(client.lastEventId).not.toContain(encodePosition(NOT_YET));
});

test('none of them exists yet: the beginning of each', async () => {
  expect(await sluice.watermark(['never', 'ever'])).toBe('start');
  expect((await fetch(urlOf(['never'], 'start'))).status).toBe(404);
});

test('I8: deleted and made again since the render is told, not skipped', async () => {
  await sluice.createStream('again');
  await sluice.stream('again').append(1);
  const after = await sluice.watermark(['again', 'not yet there']);
  await sluice.deleteStream('again');
  await sluice.createStream('again');
  await sluice.stream('again').append(2);
  using client = await openSse(urlOf(['again'], after));
  await client.received(1);
  expect(client.control('reset')).toEqual([
    expect.objectContaining({ stream: 'again', reason: 'recreated' }),
  ]);
});

test('I8: trimmed since the render is told as a gap; trimmed before it is no news', async () => {
  await sluice.createStream('trimmed');
  await sluice.stream('trimmed').appendMany([{ data: 1 }, { data: 2 }]);
  await sluice.stream('trimmed').trim({ before: 3n }); // all of it: the watermark stands on what is gone
  const after = await sluice.watermark(['trimmed']);
  await sluice.stream('trimmed').append(3);
  using first = await openSse(urlOf(['trimmed'], after));
  await first.received(1);
  expect(first.control('gap')).toEqual([]);
  await sluice.stream('trimmed').append(4);
  await sluice.stream('trimmed').trim({ before: 4n });
  using late = await openSse(urlOf(['trimmed'], after));
  await late.received(1);
  expect(late.control('gap')).toEqual([expect.objectContaining({ oldest: '4', requested: '2' })]);
});

test('names are checked, repeated ones are one, and a cursor holds twenty', async () => {
  const many = Array.from({ length: 21 }, (_, index) => `stream ${index}`);
  await expect(sluice.watermark([])).rejects.toThrow(RangeError);
  await expect(sluice.watermark(many)).rejects.toThrow(/21 streams/);
  await expect(sluice.watermark([''])).rejects.toMatchObject({ code: 'name_invalid' });
  expect(await sluice.watermark(['shown', 'shown'])).toBe(await sluice.watermark(['shown']));
  const gone = AbortSignal.abort(new Error('the request was given up'));
  await expect(sluice.watermark(['shown'], { signal: gone })).rejects.toThrow('given up');
});
