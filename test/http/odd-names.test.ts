// Guards that a stream may have any name that is valid, through everything that takes one: written and read by offset and
// cursor, followed in the process and over HTTP, described, listed, bounded, trimmed and deleted, each by its own name
// and never by another one that looks like it.
import type { Sluice } from 'sluice';
import { describe, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { useServing, type Serving } from '../support/serve.ts';
import { openSse } from '../support/sse.ts';

const db = useDatabase();
let sluice: Sluice;
let serving: Serving;
useServing(db, { fallbackPollMs: 100 }, (started) => ({ sluice, serving } = started));

const names: [string, string][] = [
  ['single quotes', "it's ''quoted''"],
  ['double quotes', 'say "hello" ""'],
  ['backslashes', 'a\\b\\\\c\\'],
  ['slashes and dots', '/../a//b/./../'],
  ['what SQL would read', "x'); drop schema sluice cascade; --"],
  ['dollars', '$1 $$ $sluice$'],
  ['placeholders', `:"schema" :'schema' %I %s`],
  ['wildcards', '%_%'],
  ['what a URL would read', 'a?b=c&d#e+f g%20h%'],
  ['what a template would read', '${name} {{name}} <b>&amp;</b>'],
  ['spaces at both ends', '  inside  '],
  ['one space', ' '],
  ['a position', 'start'],
  ['a number', '0'],
  ['a flag', '--after'],
  ['a member of an object', '__proto__'],
  ['emoji', '👩‍👩‍👧‍👦🧾'],
  ['other scripts', 'заказы/注文/طلبات'],
  ['a combining accent', 'e\u0301'],
  ['the same, composed', '\u00e9'],
  ['invisible characters', 'a\u200b\u202e\ufeffb'],
  ['line separators', 'a\u2028b\u2029c'],
  ['the last code point', '\u{10ffff}'],
  ['512 bytes', 'x'.repeat(512)],
  ['512 bytes of emoji', '🧾'.repeat(128)],
];

describe.each(names)('%s', (_, name) => {
  test('from its making to its deletion', async () => {
    const made = await sluice.createStream(name, { maxCount: 100 });
    expect(made).toMatchObject({ name, retention: { maxCount: 100 } });
    await expect(sluice.createStream(name)).rejects.toMatchObject({ code: 'stream_exists' });
    const stream = sluice.stream(name);
    expect(await stream.append(1)).toMatchObject({ offset: 1n });
    await using client = await openClient(db.connectionString);
    await client.query('begin');
    await stream.publish(2, { tx: client });
    await client.query('commit');
    const events = stream.subscribe()[Symbol.asyncIterator]();
    for (const offset of [1n, 2n]) {
      expect((await events.next()).value).toMatchObject({ stream: name, offset, data: Number(offset) });
    }
    await events.return?.();
    await client.query('select sluice.append($1, $2)', [name, '3']);

    using sse = await openSse(serving.url(name, 'after=start'));
    await sse.received(3);
    const told = sse.frames.find(({ event }) => event === 'sluice:open');
    expect(JSON.parse(told?.data ?? '')).toMatchObject({ streams: [{ name, head: '3', oldest: '1' }] });

    const { events: read, cursor } = await stream.read();
    expect(read.map((event) => [event.stream, event.data])).toEqual([1, 2, 3].map((data) => [name, data]));
    expect(await stream.read({ after: cursor })).toMatchObject({ events: [], upToDate: true });
    expect(await stream.trim({ before: 3n })).toEqual({ oldest: 3n, removed: 2n });
    expect(await sluice.configureStream(name, { maxCount: null })).toMatchObject({
      name,
      head: 3n,
      oldest: 3n,
      retention: {},
    });
    const listed: string[] = [];
    for await (const info of sluice.streams({ prefix: name })) listed.push(info.name);
    expect(listed).toEqual([name]);
    expect(await sluice.deleteStream(name)).toBe(true);
    expect(await stream.info()).toBeNull();
    await expect(stream.trim({ maxCount: 1 })).rejects.toMatchObject({ code: 'stream_not_found' });
    await sse.ended();
  });
});

test('names that look alike are different streams', async () => {
  const alike = ['e\u0301', '\u00e9', 'E\u0301', 'a', 'A', ' a', 'a ', '%', '_', 'ａ'];
  for (const name of alike) await sluice.stream(name).append(name);
  for (const name of alike) {
    expect((await sluice.stream(name).read()).events.map(({ data }) => data)).toEqual([name]);
  }
});

test.each([
  ['nothing', ''],
  ['513 bytes', 'x'.repeat(513)],
  ['513 bytes of emoji', `${'🧾'.repeat(128)}x`],
  ['U+0000', 'a\0b'],
  ['a line end', 'a\nb'],
  ['an escape', '\u001b[2J'],
  ['DEL', '\u007f'],
  ['a C1 control', '\u0085'],
  ['a lone surrogate', '\ud83e'],
  ['half of a pair', '🧾'.slice(1)],
  ['no text', 7 as unknown as string],
])('%s is no name, for anything', async (_, name) => {
  const invalid = { code: 'name_invalid' };
  const thrown = (() => {
    try {
      sluice.stream(name);
      return undefined;
    } catch (error) {
      return error;
    }
  })();
  expect(thrown).toMatchObject(invalid);
  await expect(sluice.createStream(name)).rejects.toMatchObject(invalid);
  await expect(sluice.configureStream(name, { maxCount: 1 })).rejects.toMatchObject(invalid);
  await expect(sluice.deleteStream(name)).rejects.toMatchObject(invalid);
});
