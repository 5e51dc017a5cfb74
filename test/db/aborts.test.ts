// Guards that an abort is obeyed at once, also while the database does not answer: promises reject with the reason,
// iterations end normally, and nothing is left behind when it answers again.
import { connect, migrate, type Sluice } from 'sluice';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { openClient } from '../support/client.ts';
import { useDatabase } from '../support/database.ts';
import { until } from '../support/diagnostics.ts';

const db = useDatabase();
const reason = new Error('enough');

let sluice: Sluice;
beforeAll(async () => {
  sluice = await connect({ connectionString: db.connectionString, relay: false, fallbackPollMs: 600_000 });
  await sluice.stream('aborted').append(1);
  await sluice.stream('aborted').group('aborted').stats();
});
afterAll(() => sluice.close());

// Whoever reads or writes a table waits, until the end of the test.
beforeEach(async () => {
  const holder = await openClient(db.connectionString);
  await holder.query(
    `begin; do $$ begin
       execute (select 'lock table ' || string_agg(format('sluice.%I', tablename), ', ')
                from pg_tables where schemaname = 'sluice');
     end $$`,
  );
  return () => holder.end();
});

/** How many sessions wait for the tables. */
const waiting = async (): Promise<number> => {
  const { rowCount } = await db.query(
    `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`,
  );
  return rowCount ?? 0;
};
/** Aborts what is given the signal, once the server lets it wait. */
const abortWaiting = async <T>(start: (signal: AbortSignal) => Promise<T>): Promise<T> => {
  const before = await waiting();
  const aborting = new AbortController();
  const outcome = start(aborting.signal);
  outcome.catch(() => {});
  await until(async () => (await waiting()) > before);
  aborting.abort(reason);
  return outcome;
};
const countOf = async (sequence: AsyncIterable<unknown>): Promise<number> => {
  let count = 0;
  for await (const _ of sequence) count += 1;
  return count;
};

test('lists and subscriptions end', async () => {
  const stream = sluice.stream('aborted');
  const group = stream.group('aborted');
  for (const sequence of [
    (signal: AbortSignal) => sluice.streams({ signal }),
    (signal: AbortSignal) => sluice.groups({ signal }),
    (signal: AbortSignal) => sluice.undeliverable({ signal }),
    (signal: AbortSignal) => group.deadLetters.list({ signal }),
    (signal: AbortSignal) => stream.subscribe({ signal }),
  ]) {
    expect(await abortWaiting((signal) => countOf(sequence(signal)))).toBe(0);
  }
});

test('a subscription that cannot open: `ready` rejects', async () => {
  const stream = sluice.stream('aborted');
  await expect(abortWaiting((signal) => stream.subscribe({ after: 0n, signal }).ready)).rejects.toBe(reason);
});

test('what is aborted already, or no signal at all, begins nothing and leaves no rejection behind', async () => {
  // To nowhere: whoever begins all the same fails where nobody waits for it, which fails the test run.
  const connectionString = 'postgres://127.0.0.1:1/none';
  const missing = sluice.stream('missing');
  for (const begin of [
    (signal: AbortSignal) => connect({ connectionString, signal }),
    (signal: AbortSignal) => migrate({ connectionString, signal }),
    (signal: AbortSignal) => sluice.watermark(['aborted'], { signal }),
    (signal: AbortSignal) => sluice.dropUndeliverable({ signal }),
    (signal: AbortSignal) => missing.read({ signal }),
    (signal: AbortSignal) => missing.presence.list({ signal }),
    (signal: AbortSignal) => missing.presence.count({ signal }),
    (signal: AbortSignal) => missing.group('aborted').claim({ signal }),
    (signal: AbortSignal) => missing.append(1, { signal }),
    (signal: AbortSignal) => missing.appendMany([{ data: 1 }], { signal }),
    (signal: AbortSignal) => missing.publish(1, { signal }),
    (signal: AbortSignal) => missing.publishMany([{ data: 1 }], { signal }),
    (signal: AbortSignal) => missing.broadcast(1, { signal }),
    (signal: AbortSignal) => sluice.bus.subscribe('aborted', { signal }),
    (signal: AbortSignal) => sluice.bus.listen('aborted', () => {}, { signal }),
  ]) {
    await expect(begin(AbortSignal.abort(reason))).rejects.toBe(reason);
    for (const none of ['no signal', {}, new AbortController()]) {
      await expect(begin(none as never)).rejects.toThrow(
        new TypeError('the signal is none; give an AbortSignal'),
      );
    }
  }
  expect(await waiting()).toBe(0);
});

test('connecting and migrating', async () => {
  const { connectionString } = db;
  for (const apply of ['check', 'apply'] as const) {
    const connecting = abortWaiting((signal) => connect({ connectionString, signal, migrate: apply }));
    await expect(connecting).rejects.toBe(reason);
  }
  await expect(abortWaiting((signal) => migrate({ connectionString, signal }))).rejects.toBe(reason);
});
