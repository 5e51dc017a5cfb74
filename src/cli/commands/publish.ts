// `sluice publish <stream> [json|-]`: writes events as a transaction of its own would, through the outbox. They have no
// offset until the relay has moved them; this process takes that role if nobody has it, and waits a moment to see it
// done, so that a `tail` after it finds them.
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Sluice, Stream } from '../../index.ts';
import type { Context } from '../context.ts';
import { parseDuration } from '../amounts.ts';
import { addEventArguments, oneEventOnly, type EventArguments } from '../event-arguments.ts';
import { ingest } from '../ingest.ts';
import { readPayload, type Payload } from '../json-argument.ts';
import { printable } from '../output.ts';
import { withSluice } from '../target.ts';

/** How long it waits to see them in the stream, looking so often. */
const MOVED_WITHIN_MS = 2000;
const RECHECK_MS = 20;

export function addPublish(program: Command, context: Context): void {
  const command = program
    .command('publish')
    .description('publish events to a stream through the outbox, creating it if need be');
  addEventArguments(command)
    .option('--delay <duration>', 'deliver not before: 5s, 12h, 7d')
    .option('--idempotency-key <key>', 'publish the event once, however often this is repeated')
    .action((name: string, json: string | undefined, options: PublishArguments) => {
      const payload = readPayload(json);
      oneEventOnly(payload, { '--idempotency-key': options.idempotencyKey });
      const work = (sluice: Sluice): Promise<void> =>
        publish(context, sluice.stream(name), { payload, options });
      return withSluice(context, { relay: true }, work).finally(
        () => payload.kind === 'input' && payload.close(),
      );
    });
}

interface PublishArguments extends EventArguments {
  readonly delay?: string | undefined;
}

interface Publishing {
  readonly payload: Payload;
  readonly options: PublishArguments;
}

async function publish(context: Context, stream: Stream, { payload, options }: Publishing): Promise<void> {
  const { type, key, visibleTo, idempotencyKey } = options;
  const delayMs = options.delay === undefined ? undefined : parseDuration('--delay', options.delay);
  const { out, signal } = context;
  const before = await headOf(stream);
  let count = 1;
  let id: string | undefined;
  signal.throwIfAborted(); // from here on what was begun is finished, so that its outcome is known
  if (payload.kind === 'value') {
    ({ id } = await stream.publish(payload.value, { type, key, visibleTo, idempotencyKey, delayMs }));
  } else {
    count = await ingest(context, {
      done: 'published',
      input: payload.input,
      write: async (values) =>
        void (await stream.publishMany(
          values.map((data) => ({ data, type, key, visibleTo })),
          { delayMs },
        )),
    });
  }
  if (delayMs !== undefined && delayMs > 0) {
    out.talk(
      `due in ${delayMs} ms; a relay moves what is due, in any process that is connected to this database`,
    );
  } else if (!(await waitUntilHead(stream, before + BigInt(count), signal))) {
    const known = idempotencyKey === undefined ? '' : 'known by its key already, or ';
    out.talk(
      `${known}not in the stream yet: a relay moves them, in any process that is connected to this database`,
    );
  }
  return id === undefined
    ? out.data(`${count} events published to ${printable(stream.name)}`, { stream: stream.name, count })
    : out.data(`id ${id}`, { stream: stream.name, id });
}

const headOf = async (stream: Stream): Promise<bigint> => (await stream.info())?.head ?? 0n;

/** Other writers' events may stand in for ours: this is a courtesy, and nothing is promised by it. */
async function waitUntilHead(stream: Stream, head: bigint, signal: AbortSignal): Promise<boolean> {
  const givesUpAt = performance.now() + MOVED_WITHIN_MS;
  while ((await headOf(stream)) < head) {
    if (signal.aborted || performance.now() > givesUpAt) return false;
    await delay(RECHECK_MS);
  }
  return true;
}
