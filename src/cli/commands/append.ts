// `sluice append <stream> [json|-]`: writes events now and says their offsets.
import type { Command } from 'commander';
import type { Sluice } from '../../index.ts';
import type { Context } from '../context.ts';
import { ingest } from '../ingest.ts';
import { parseOffset } from '../amounts.ts';
import { addEventArguments, oneEventOnly, type EventArguments } from '../event-arguments.ts';
import { readPayload, type Payload } from '../json-argument.ts';
import { printable } from '../output.ts';
import { withSluice } from '../target.ts';

interface AppendArguments extends EventArguments {
  readonly expectedOffset?: string | undefined;
}

export function addAppend(program: Command, context: Context): void {
  const command = program
    .command('append')
    .description('append events to a stream, creating it if need be, and print their offsets');
  addEventArguments(command)
    .option('--idempotency-key <key>', 'append the event once, however often this is repeated')
    .option('--expected-offset <n>', 'append only if the event gets this offset')
    .action((name: string, json: string | undefined, options: AppendArguments) => {
      const payload = readPayload(json);
      const { idempotencyKey, expectedOffset } = options;
      oneEventOnly(payload, { '--idempotency-key': idempotencyKey, '--expected-offset': expectedOffset });
      return withSluice(context, {}, (sluice) => append(context, sluice, { name, payload, options })).finally(
        () => payload.kind === 'input' && payload.close(),
      );
    });
}

interface Appending {
  readonly name: string;
  readonly payload: Payload;
  readonly options: AppendArguments;
}

async function append(
  context: Context,
  sluice: Sluice,
  { name, payload, options }: Appending,
): Promise<void> {
  const { type, key, visibleTo, idempotencyKey } = options;
  const { out, signal } = context;
  const stream = sluice.stream(name);
  signal.throwIfAborted(); // from here on what was begun is finished, so that its outcome is known
  if (payload.kind === 'value') {
    const expectedOffset =
      options.expectedOffset === undefined
        ? undefined
        : parseOffset('--expected-offset', options.expectedOffset);
    const appended = await stream.append(payload.value, {
      type,
      key,
      visibleTo,
      idempotencyKey,
      expectedOffset,
    });
    const { offset, cursor, duplicate } = appended;
    return out.data(`offset ${offset}  cursor ${cursor}${duplicate ? '  duplicate' : ''}`, {
      stream: name,
      offset,
      cursor,
      duplicate,
    });
  }
  let first: bigint | null = null;
  let last: bigint | null = null;
  let cursor: string | null = null;
  const count = await ingest(context, {
    done: 'appended',
    input: payload.input,
    write: async (values) => {
      const written = await stream.appendMany(values.map((data) => ({ data, type, key, visibleTo })));
      first ??= written.first;
      ({ last, cursor } = written);
    },
  });
  const where = count === 0 ? '' : `: offsets ${String(first)} to ${String(last)}, cursor ${String(cursor)}`;
  return out.data(`${count} events appended to ${printable(name)}${where}`, {
    stream: name,
    count,
    first,
    last,
    cursor,
  });
}
