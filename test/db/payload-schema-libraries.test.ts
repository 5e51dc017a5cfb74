// Guards that the libraries people use fit as they are: zod, valibot and arktype describe the same payload, and Sluice
// accepts, refuses and transforms alike with each, whatever shape their schemas, answers and issues have.
import { type } from 'arktype';
import { connect, SluiceError, type Sluice, type StandardSchemaV1 } from 'sluice';
import * as v from 'valibot';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { z } from 'zod';
import { useDatabase } from '../support/database.ts';

const db = useDatabase();
let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString });
});
afterAll(() => sluice.close());

interface Written {
  id: number;
  at: string;
  items: { name: string }[];
}
interface Read {
  id: number;
  at: Date;
  items: { name: string }[];
}

const zodOrder = z.object({
  id: z.number(),
  at: z.iso.datetime().transform((text) => new Date(text)),
  items: z.array(z.object({ name: z.string() })),
});
const valibotEntries = {
  id: v.number(),
  at: v.pipe(
    v.string(),
    v.isoTimestamp(),
    v.transform((text) => new Date(text)),
  ),
  items: v.array(v.object({ name: v.string() })),
};
const libraries: [string, StandardSchemaV1<Written, Read>][] = [
  ['zod', zodOrder],
  ['zod, asynchronous', zodOrder.refine(async () => true)],
  ['valibot', v.object(valibotEntries)],
  [
    'valibot, asynchronous',
    v.pipeAsync(
      v.object(valibotEntries),
      v.checkAsync(async () => true),
    ),
  ],
  ['arktype', type({ id: 'number', at: 'string.date.iso.parse', items: type({ name: 'string' }).array() })],
];

describe.each(libraries)('%s', (name, schema) => {
  const at = '2026-01-01T00:00:00.000Z';
  const fits: Written = { id: 1, at, items: [{ name: 'kettle' }] };

  test('what fits is stored as given and read as made', async () => {
    const stream = sluice.stream(name, { schema, validateOnRead: true });
    await stream.append(fits);
    await stream.publish({ ...fits, id: 2 });
    const read: Read[] = [];
    for await (const { data, offset } of stream.subscribe()) {
      read.push(data);
      if (offset === 2n) break;
    }
    expect(read).toEqual([1, 2].map((id) => ({ ...fits, id, at: new Date(at) })));
    const { events } = await sluice.stream(name).read();
    expect(events.map(({ data }) => data)).toEqual([fits, { ...fits, id: 2 }]);
  });

  test('what does not fit is refused, with plain paths', async () => {
    const bad = { id: 'x', at, items: [{ name: 'a' }, { name: 2 }] } as unknown as Written;
    const stream = sluice.stream(`${name}, refusing`, { schema });
    const error = await stream.append(bad).then(
      () => expect.unreachable('it was accepted'),
      (thrown: unknown) => (thrown instanceof SluiceError ? thrown : expect.unreachable(String(thrown))),
    );
    expect(error.code).toBe('payload_invalid');
    expect(error.message).toMatch(/: id: .*items\[1\]\.name: /);
    expect(error.issues).toEqual([
      { message: expect.stringMatching(/number/), path: ['id'] },
      { message: expect.stringMatching(/string/), path: ['items', 1, 'name'] },
    ]);
    expect(await stream.info()).toBeNull();
  });

  test('an old event that does not fit stops a reader, who goes on after it', async () => {
    const old = `${name}, old`;
    await sluice.stream(old).appendMany([{ data: { ...fits, at: 'yesterday' } }, { data: fits }]);
    const stream = sluice.stream(old, { schema, validateOnRead: true });
    const error = await stream.read().then(
      () => expect.unreachable('it was read'),
      (thrown: unknown) => (thrown instanceof SluiceError ? thrown : expect.unreachable(String(thrown))),
    );
    expect(error).toMatchObject({ code: 'payload_invalid', offset: 1n, issues: [{ path: ['at'] }] });
    expect((await stream.read({ after: error.cursor ?? '' })).events).toHaveLength(1);
  });
});
