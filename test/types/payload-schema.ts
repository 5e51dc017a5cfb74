// What a schema says of a stream's types: this file compiles only if they are inferred from zod's, valibot's and
// arktype's schemas alike, for what is written and for what is read, and if a stream without one keeps its own.
import { type } from 'arktype';
import type { Sluice, StandardSchemaV1, Stream } from 'sluice';
import * as v from 'valibot';
import { expectTypeOf } from 'vitest';
import { z } from 'zod';

declare const sluice: Sluice;

// zod, with a default and a transform: what is written and what is read differ.
const withZod = sluice.stream('a', {
  schema: z.object({
    id: z.int(),
    at: z.string().transform((text) => new Date(text)),
    n: z.int().default(1),
  }),
  validateOnRead: true,
});
expectTypeOf<typeof withZod>().toEqualTypeOf<
  Stream<{ id: number; at: string; n?: number | undefined }, { id: number; at: Date; n: number }>
>();

const withValibot = sluice.stream('a', {
  schema: v.object({
    id: v.number(),
    at: v.pipe(
      v.string(),
      v.transform((text) => new Date(text)),
    ),
  }),
  validateOnRead: true,
});
expectTypeOf<typeof withValibot>().toEqualTypeOf<
  Stream<{ id: number; at: string }, { id: number; at: Date }>
>();

const withValibotAsync = sluice.stream('a', {
  schema: v.pipeAsync(
    v.string(),
    v.transformAsync(async (text) => text.length),
  ),
});
expectTypeOf<typeof withValibotAsync>().toEqualTypeOf<Stream<string, number>>();

const withArktype = sluice.stream('a', { schema: type({ id: 'number', at: 'string.date.parse' }) });
expectTypeOf<typeof withArktype>().toEqualTypeOf<
  Stream<{ id: number; at: string }, { id: number; at: Date }>
>();

// The types reach every method.
export async function use(): Promise<void> {
  await withZod.append({ id: 1, at: '2026-01-01' });
  await withZod.publishMany([{ data: { id: 1, at: '2026-01-01', n: 2 } }]);
  // @ts-expect-error a Date is what is read, not what is written
  await withZod.append({ id: 1, at: new Date(0) });
  // @ts-expect-error `id` is missing
  await withZod.publish({ at: '2026-01-01' });
  // @ts-expect-error in a batch too
  await withZod.appendMany([{ data: { id: '1', at: '2026-01-01' } }]);
  const { events } = await withZod.read();
  for (const { data } of events)
    expectTypeOf<typeof data>().toEqualTypeOf<{ id: number; at: Date; n: number }>();
  for await (const { data } of withZod.subscribe()) expectTypeOf<(typeof data)['at']>().toEqualTypeOf<Date>();
}

// Without a schema, as before; and any object that implements the standard will do.
const plain = sluice.stream('a');
expectTypeOf<typeof plain>().toEqualTypeOf<Stream<unknown, unknown>>();
const named = sluice.stream<{ id: number }>('a');
expectTypeOf<typeof named>().toEqualTypeOf<Stream<{ id: number }, { id: number }>>();
declare const own: StandardSchemaV1<string, number>;
const withOwn = sluice.stream('a', { schema: own, validateOnRead: true });
expectTypeOf<typeof withOwn>().toEqualTypeOf<Stream<string, number>>();
const wrapped = <In, Out>(schema: StandardSchemaV1<In, Out>): Stream<In, Out> =>
  sluice.stream('a', { schema });
expectTypeOf<ReturnType<typeof wrapped<string, number>>>().toEqualTypeOf<Stream<string, number>>();

// @ts-expect-error no schema
sluice.stream('a', { schema: { parse: (text: string) => text } });
// @ts-expect-error a type named beside a schema must be the schema's
sluice.stream<{ id: string }>('a', { schema: z.object({ id: z.int() }) });
