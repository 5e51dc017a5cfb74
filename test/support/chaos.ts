// Owns one history from its first writer to its judgement: starts readers, lets writers and faults run, waits until
// everything that was committed lies in the logs and every reader has had its chance, and hands all of it to the
// checker. What "everything has arrived" means is decided here, from the database alone.
import type { Pool } from 'pg';
import type { Sluice } from 'sluice';
import { until } from './diagnostics.ts';
import { checkHistory, summarize, type History, type Reading, type Seen, type Violation } from './history.ts';
import type { Payload, Writers } from './writers.ts';

/** Options that make takeovers quick: detection takes a second or two instead of ten. */
export const quick = { fallbackPollMs: 200, heartbeatMs: 100, idleSessionTimeoutMs: 1000 } as const;

/** Everything a reader of a history has to offer, in this process or another. */
export interface Following {
  readonly stream: string;
  readonly position: bigint;
  readonly reading: Reading;
  stop(): Promise<void>;
}

type Head = { readonly stream: string; readonly head: bigint };

export async function headsOf(pool: Pool, streams: readonly string[]): Promise<Head[]> {
  const { rows } = await pool.query<{ stream: string; head: string }>(
    `select s.name as stream, coalesce(
       (select e."offset" from sluice.events e where e.stream_id = s.id order by e."offset" desc limit 1), 0
     )::text as head
     from sluice.streams s where s.name = any ($1)`,
    [streams],
  );
  return rows.map(({ stream, head }) => ({ stream, head: BigInt(head) }));
}

/** Looks at the heads again and again until the signal; none of them may fall inside a transaction. */
export async function watchHeads(
  pool: Pool,
  streams: readonly string[],
  signal: AbortSignal,
): Promise<Head[]> {
  const heads: Head[] = [];
  while (!signal.aborted) {
    heads.push(...(await headsOf(pool, streams)));
    await pool.query('select pg_sleep(0.004)');
  }
  return heads;
}

/** How long a stuck machine may take; what has not arrived by then is lost. */
const deadlineMs = 30_000;

/** Resolves when nothing that is published is left to move. */
const moved = (pool: Pool): Promise<void> =>
  until(async () => (await pool.query('select from sluice.outbox limit 1')).rowCount === 0, { deadlineMs });

async function readLog(sluice: Sluice, name: string): Promise<Seen[]> {
  const stream = sluice.stream<Payload>(name);
  const log: Seen[] = [];
  for (let after = '0'; ;) {
    const { events, cursor, upToDate } = await stream.read({ after });
    log.push(...events.map(({ offset, data, cursor }) => ({ offset, value: data.value, cursor })));
    if (upToDate) return log;
    after = cursor;
  }
}

export interface Settled {
  readonly pool: Pool;
  readonly sluice: Sluice;
  readonly writers: Writers;
  readonly readers: readonly Following[];
  readonly heads?: readonly Head[] | undefined;
}

/** Resolves when every committed event is in the logs and with these readers. Rejects when that takes too long. */
export async function arrived({ pool, readers }: Pick<Settled, 'pool' | 'readers'>): Promise<void> {
  await moved(pool);
  const ends = await headsOf(pool, [...new Set(readers.map(({ stream }) => stream))]);
  const headOf = new Map(ends.map(({ stream, head }) => [stream, head]));
  await until(() => readers.every(({ stream, position }) => position >= (headOf.get(stream) ?? 0n)), {
    deadlineMs,
  });
}

/** The history once everything has come to rest; ends the readers. What has not arrived by then counts as lost. */
export async function settle({ pool, sluice, writers, readers, heads }: Settled): Promise<History> {
  await arrived({ pool, readers }).catch(() => {}); // the checker says better what is missing
  await Promise.all(readers.map((reader) => reader.stop()));
  const logs = new Map<string, readonly Seen[]>();
  for (const name of writers.streams) logs.set(name, await readLog(sluice, name));
  return { transactions: writers.transactions, logs, readings: readers.map(({ reading }) => reading), heads };
}

/** @throws Error that says which invariants the history breaks, and how */
export function assertSound(history: History): void {
  const violations: Violation[] = checkHistory(history);
  if (violations.length > 0) throw new Error(`the history is not sound:\n${summarize(violations)}`);
}
