// Guards the names and payloads of notifications: names that PostgreSQL would cut or refuse never reach it as they are,
// and two names never become one channel.
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkPayload, serverChannel } from '../../src/listen/channel.ts';

const name = fc
  .string({ unit: 'grapheme', minLength: 1, maxLength: 200 })
  .filter((text) => !text.includes('\0'));

describe('a channel', () => {
  test('is its name up to 63 bytes, in any script, and always fits', () => {
    fc.assert(
      fc.property(name, (name) => {
        const channel = serverChannel(name);
        expect(Buffer.byteLength(channel)).toBeLessThanOrEqual(63);
        if (Buffer.byteLength(name) <= 63) expect(channel).toBe(name);
      }),
    );
  });

  test('of a longer name is its hash: names that share their first 63 bytes stay apart', () => {
    const start = 'é'.repeat(40);
    expect(serverChannel(`${start}1`)).toMatch(/^sluice:[0-9a-f]{56}$/);
    expect(serverChannel(`${start}1`)).not.toBe(serverChannel(`${start}2`));
    expect(serverChannel('x'.repeat(63))).toBe('x'.repeat(63));
    expect(serverChannel('x'.repeat(64))).toBe(
      'sluice:7ce100971f64e7001e8fe5a51973ecdfe1ced42befe7ee8d5fd62195',
    );
  });

  test.each([
    ['', 'must not be empty'],
    ['a\0b', 'contains U\\+0000'],
    ['a\ud800', 'lone surrogate'],
    [7, 'must be a string, not number'],
    [undefined, 'not undefined'],
  ])('%j is refused', (name, reason) => {
    expect(() => serverChannel(name)).toThrow(new RegExp(reason));
    expect(() => serverChannel(name)).toThrow(expect.objectContaining({ code: 'name_invalid' }));
  });
});

describe('a payload', () => {
  test('of 7 999 bytes fits, one of 8 000 is refused with its size and what to do', () => {
    expect(() => checkPayload('c', 'é'.repeat(3999) + 'x')).not.toThrow();
    expect(() => checkPayload('c', 'é'.repeat(4000))).toThrow(
      expect.objectContaining({
        code: 'payload_too_large',
        message: expect.stringMatching(/"c" has 8000 bytes.*7999; store it/),
      }),
    );
  });

  test('that PostgreSQL cannot carry is refused', () => {
    for (const payload of ['a\0b', 'a\ud800']) {
      expect(() => checkPayload('c', payload)).toThrow(expect.objectContaining({ code: 'payload_invalid' }));
    }
    expect(() => checkPayload('c', { id: 1 })).toThrow(TypeError);
  });
});
