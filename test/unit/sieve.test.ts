// Guards that every notification is told, as it was sent and at its place, and that the driver gets every other byte,
// however the stream was cut (I8).
import * as fc from 'fast-check';
import { Client } from 'pg';
import { expect, test } from 'vitest';
import { Sieve } from '../../src/listen/sieve.ts';

type Sent =
  | { readonly channel: string; readonly payload: string; readonly processId: number }
  | { readonly type: string; readonly body: Uint8Array };

const text = (options: fc.StringConstraints) =>
  fc.string({ unit: 'grapheme', ...options }).map((some) => some.replaceAll('\0', ''));
const names = fc.constantFrom('orders', 'room:1', 'room:2', 'é', 'Ã©', 'Aa', 'BB', '\u{1f600}');
const notification = fc.record({
  channel: fc.oneof(names, text({ minLength: 1, maxLength: 20 })),
  payload: text({ maxLength: 30 }),
  processId: fc.integer({ min: -1, max: 2 ** 31 - 1 }),
});
const other = fc.record({
  type: fc.constantFrom('T', 'D', 'C', 'Z', 'N', 'S'),
  body: fc.uint8Array({ maxLength: 40 }),
});

const encode = (sent: Sent): Buffer => {
  const header = Buffer.alloc(5);
  const body =
    'type' in sent
      ? Buffer.from(sent.body)
      : Buffer.concat([int32(sent.processId), string(sent.channel), string(sent.payload)]);
  header.write('type' in sent ? sent.type : 'A');
  header.writeInt32BE(4 + body.length, 1);
  return Buffer.concat([header, body]);
};
const string = (value: string): Buffer => Buffer.from(`${value}\0`);
const int32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32BE(value);
  return bytes;
};

/** What came through, one after another; bytes for the driver that follow each other as one. */
function sieved(chunks: Iterable<Buffer>): unknown[] {
  const seen: unknown[] = [];
  let others = '';
  const flush = (): void => {
    if (others !== '') seen.push(others);
    others = '';
  };
  const sieve = new Sieve({
    onNotification(channel, payload, processId) {
      flush();
      seen.push({ channel, payload, processId });
    },
    onOther(bytes) {
      expect(bytes.length).toBeGreaterThan(0);
      others += bytes.toString('hex');
    },
  });
  for (const chunk of chunks) sieve.push(chunk);
  flush();
  return seen;
}

function expected(all: readonly Sent[]): unknown[] {
  const seen: unknown[] = [];
  for (const sent of all) {
    const hex = encode(sent).toString('hex');
    if (!('type' in sent)) seen.push(sent);
    else if (typeof seen.at(-1) === 'string') seen.push(String(seen.pop()) + hex);
    else seen.push(hex);
  }
  return seen;
}

function cut(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const chunks: Buffer[] = [];
  let at = 0;
  for (const size of [...sizes, bytes.length]) {
    if (at < bytes.length) chunks.push(bytes.subarray(at, at + size));
    at += size;
  }
  return chunks;
}

test('I8: notifications and all other bytes come through in order, wherever the stream is cut', () => {
  fc.assert(
    fc.property(
      fc.array(fc.oneof(notification, notification, other), { maxLength: 30 }),
      fc.array(fc.integer({ min: 1, max: 60 }), { maxLength: 60 }),
      (all, sizes) => {
        const bytes = Buffer.concat(all.map(encode));
        expect(sieved(cut(bytes, sizes))).toEqual(expected(all));
      },
    ),
  );
});

test.each([
  ['longer', 20_000],
  ['shorter', 5],
])('I7: what says it is a notification and is %s than any is left to the driver, byte by byte', (_, size) => {
  const odd = encode({ type: 'A', body: Buffer.alloc(size, 1) });
  const after = { channel: 'orders', payload: 'x', processId: 7 };
  const bytes = Buffer.concat([odd, encode(after)]);
  const single = Array.from(bytes, (byte) => Buffer.from([byte]));
  expect(sieved(single)).toEqual([odd.toString('hex'), after]);
});

test('the driver still has the place where the sieve is put; without it notifications come, and cost twice as much', () => {
  expect(new Client().connection).toHaveProperty('attachListeners', expect.any(Function));
});
