// Guards the one shape of an event in this process: what is appended here is handed to readers as what was read is.
import { expect, test } from 'vitest';
import { appendedRecords } from '../../src/log/append.ts';
import { encodeEvent, DEFAULT_LIMITS } from '../../src/log/encode.ts';
import { recordOf } from '../../src/log/read.ts';

test('what was appended equals what is read of it, member by member, in the same order', () => {
  const audience = { visibleTo: 'staff', exclude: '7f9c24e8-3b12-4d56-a8f1-0c1d2e3f4a5b' };
  const event = encodeEvent(
    { data: { n: 1 }, type: 'made', key: 'k', headers: { a: 'b' }, ...audience },
    DEFAULT_LIMITS,
  );
  const { type, key, visibleTo, exclude, headers, data } = event;
  const [appended] = appendedRecords(
    { stream: 's', events: [event] },
    {
      kind: 'ok',
      incarnation: 1n,
      first: 7n,
      previousTag: 0,
      atMs: 1000,
      tags: Int32Array.of(-3),
      rung: false,
    },
  );
  const read = recordOf(['7', -3, 1000.5, type, key, visibleTo, exclude, headers, data]);
  expect(appended).toEqual(read);
  expect(Object.keys(appended ?? {})).toEqual(Object.keys(read));
});
