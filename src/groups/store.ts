// The statements of groups: what sql/functions offers, with the types of this side. Holds nothing.
import type { Database } from '../db/database.ts';
import type { SqlExecutor } from '../db/queryable.ts';
import { translated } from '../db/sqlstate.ts';
import { timestamp } from '../db/timestamp.ts';
import { requireTransaction } from '../db/transaction.ts';
import { textArrayLiteral } from '../db/array-literal.ts';
import type { StreamIdentity } from '../log/event.ts';
import { toHandedOut, type HandedOut, type HandedOutRow } from './handed-out.ts';
import { fromMultirange, toMultirange } from './offsets.ts';
import type { Backoff } from '../util/backoff.ts';

/** A group of a stream that is there. */
export interface GroupRef {
  readonly id: bigint;
  readonly name: string;
  readonly stream: StreamIdentity;
  /** Null: the group is not keyed. */
  readonly partitions: number | null;
}

// Handing out and acknowledging may be lost with a crash of the server: the events are handed out once more. Decided on
// a statement of our own; the functions, which a user's transaction calls too, never do.
const lazily = (call: string): string =>
  `select c.* from (select set_config('synchronous_commit', 'off', true)) s, ${call} c`;

/** Undefined: the stream is gone. */
export async function ensureGroup(
  database: Database,
  {
    stream,
    name,
    after,
    partitions,
    holdMs,
  }: Pick<GroupRef, 'stream' | 'name' | 'partitions'> & {
    readonly after: bigint;
    readonly holdMs: number | undefined;
  },
): Promise<GroupRef | undefined> {
  const [row] = await database.query<{ id: string | null; partitions: number | null }>(
    `select id::text, partitions from ${database.names.quoted}.ensure_group($1, $2, $3, $4, $5)`,
    [String(stream.incarnation), name, String(after), partitions, holdMs ?? null],
  );
  return row?.id === null || !row
    ? undefined
    : { id: BigInt(row.id), name, stream, partitions: row.partitions };
}

/** Undefined: there is no such group, or no such stream. */
export async function findGroup(
  database: Database,
  stream: string,
  name: string,
): Promise<GroupRef | undefined> {
  const { quoted } = database.names;
  const [row] = await database.query<{ id: string; incarnation: string; partitions: number | null }>(
    `select g.id::text, g.stream_id::text as incarnation, g.partitions
     from ${quoted}.groups g join ${quoted}.streams s on s.id = g.stream_id where s.name = $1 and g.name = $2`,
    [stream, name],
  );
  const identity = row && { name: stream, incarnation: BigInt(row.incarnation) };
  return row && identity && { id: BigInt(row.id), name, stream: identity, partitions: row.partitions };
}

export interface ClaimRequest {
  readonly token: string;
  readonly member: string;
  readonly max: number;
  readonly maxBytes: number;
  readonly leaseMs: number;
  readonly maxAttempts: number;
  /** Seconds since 1970 by the server's clock, of an earlier answer; undefined: look at everything. */
  readonly since: number | undefined;
  readonly perSecond: number | undefined;
  readonly members: number;
  /** Keys of which nothing more is wanted now. */
  readonly blocked: readonly string[];
  /** Tokens of leases of which all is done, in a group without partitions. */
  readonly done: readonly string[];
}

export interface Claimed {
  readonly events: readonly HandedOut[];
  /** When the lease ends, in milliseconds since 1970 by the server's clock; 0 without events. */
  readonly expiresAt: number;
  readonly cursor: bigint;
  readonly suspect: boolean;
  readonly more: boolean;
  readonly dueInMs: number | undefined;
  /** When a lease of others ends, asked for by looks at everything only. */
  readonly endsInMs: number | undefined;
  readonly lookedAt: number | undefined;
  /** There is something for other members, which this one may not have. */
  readonly others: boolean;
  /** So there is of what was to come again by now; told by looks at everything only. */
  readonly elsewhere: boolean;
  readonly missed: number;
  /** Events of expired leases that were given up. */
  readonly dead: number;
  readonly paused: boolean;
  /** Of `done`: those that are still to be settled. */
  readonly kept: readonly string[];
}

type Optional = 'expiresAt' | 'dueInMs' | 'endsInMs' | 'lookedAt';
interface Answer
  extends Omit<Claimed, 'events' | 'cursor' | 'kept' | Optional>, Record<Optional, number | null> {
  readonly cursor: string;
  readonly kept: readonly string[] | null;
}

/** @throws SluiceError stream_not_found: the group is gone, or its stream */
export async function claimEvents(
  database: Database,
  group: GroupRef,
  request: ClaimRequest,
): Promise<Claimed> {
  const { token, member, max, maxBytes, leaseMs, maxAttempts, since, perSecond, members, blocked, done } =
    request;
  const [row] = await database.query<HandedOutRow & { readonly meta: string }>(
    `select c.first_offset::text as first, c.offsets, c.data, c.types, c.tags, c.at_ms as at, c.attempts, c.keys, c.rest, c.meta
     from (select set_config('synchronous_commit', 'off', true)) s,
     ${database.names.quoted}.claim($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) c`,
    [
      String(group.id),
      token,
      member,
      max,
      maxBytes,
      leaseMs,
      maxAttempts,
      since ?? null,
      perSecond ?? null,
      members,
      blocked,
      done,
    ],
    'sluice_claim',
  );
  const { meta, ...handed } = row as HandedOutRow & { readonly meta: string }; // there always is one
  const { cursor, expiresAt, dueInMs, endsInMs, lookedAt, kept, ...answer } = JSON.parse(meta) as Answer;
  return {
    ...answer,
    events: toHandedOut(handed),
    cursor: BigInt(cursor),
    expiresAt: expiresAt ?? 0,
    dueInMs: dueInMs ?? undefined,
    endsInMs: endsInMs ?? undefined,
    lookedAt: lookedAt ?? undefined,
    kept: kept ?? [],
  };
}

/** An event that failed, by its own fault. */
export interface Failure {
  readonly offset: bigint;
  readonly error: string;
  readonly retryAt?: Date | undefined;
}

/** What has become of a part of a lease. What is named nowhere stays leased. */
export interface Settlement {
  /** `rest`: all that is named nowhere else. */
  readonly done?: readonly bigint[] | 'rest' | undefined;
  readonly failed?: readonly Failure[] | undefined;
  /** Never handed to a handler. */
  readonly returned?: readonly bigint[] | undefined;
  /** Sets of which one event failed, nobody knows which. */
  readonly again?: readonly (readonly bigint[])[] | undefined;
  readonly againMs?: number | undefined;
  /** Acknowledged in the handler's own transaction, which should have committed. */
  readonly acked?: readonly bigint[] | undefined;
  /** Some that failed may be acknowledged all the same. */
  readonly doubt?: boolean | undefined;
  readonly extendMs?: number | undefined;
}

export interface Settled {
  /** Milliseconds since 1970; 0: nothing is left of the lease. */
  readonly expiresAt: number;
  readonly dead: number;
  /** Of `acked`: those whose transaction did not commit. */
  readonly unacked: readonly bigint[];
  /** There is something to be had that the lease kept from everybody. */
  readonly more: boolean;
}

export interface FailurePolicy extends Backoff {
  readonly maxAttempts: number;
}

export interface SettleCall {
  readonly token: string;
  readonly settlement: Settlement;
  readonly policy: FailurePolicy;
}

// Text with a cast each, so that every driver can send them and none encodes them in its own way.
const PARAMETERS = `$1::text::uuid, $2::text::int8multirange, $3::text::int8multirange, $4::text::bigint[], $5::text::text[],
  $6::text::timestamptz[], $7::text::int8multirange, $8::text::int8multirange[], $9::text::double precision, $10::boolean,
  $11::text::double precision, $12::text::integer, $13::text::double precision, $14::text::double precision`;

/** @throws SluiceError lease_lost, tx_required */
export async function settleLease(
  database: Database,
  { token, settlement, policy }: SettleCall,
  tx?: SqlExecutor,
): Promise<Settled> {
  const call = `${database.names.quoted}.settle(${PARAMETERS})`;
  const values = parametersOf({ token, settlement, policy });
  const columns = `coalesce(date_part('epoch', c.expires_at) * 1000, 0) as "expiresAt", c.dead::text, c.unacked::text, c.more`;
  if (tx === undefined) {
    const text = lazily(call).replace('c.*', columns);
    return toSettled((await database.query<SettledRow>(text, values, 'sluice_settle'))[0]);
  }
  await requireTransaction(tx);
  const { rows } = await translated(async () => tx.query(`select ${columns} from ${call} c`, values));
  return toSettled(rows[0] as SettledRow);
}

interface SettledRow {
  readonly expiresAt: number;
  readonly dead: string;
  readonly unacked: string;
  readonly more: boolean;
}

const toSettled = (row: SettledRow | undefined): Settled => ({
  expiresAt: row?.expiresAt ?? 0,
  dead: Number(row?.dead ?? 0),
  unacked: fromMultirange(row?.unacked ?? '{}'),
  more: row?.more ?? false,
});

function parametersOf({ token, settlement, policy }: SettleCall): unknown[] {
  const { done = [], failed = [], returned = [], again = [], againMs = 0, acked = [] } = settlement;
  const { doubt = false, extendMs } = settlement;
  return [
    token,
    done === 'rest' ? null : toMultirange(done),
    toMultirange(returned),
    `{${failed.map(({ offset }) => offset).join(',')}}`,
    textArrayLiteral(failed.map(({ error }) => error)),
    textArrayLiteral(failed.map(({ retryAt }) => (retryAt ? timestamp('retryAt', retryAt) : null))),
    toMultirange(acked),
    textArrayLiteral(again.map(toMultirange)),
    String(againMs),
    doubt,
    extendMs === undefined ? null : String(extendMs),
    String(policy.maxAttempts),
    String(policy.initialMs),
    String(policy.maxMs),
  ];
}

/** Acknowledges events of a lease in somebody's transaction. @throws SluiceError lease_lost, tx_required */
export async function ackEvents(
  database: Database,
  token: string,
  offsets: readonly bigint[],
  tx: SqlExecutor,
): Promise<void> {
  await requireTransaction(tx);
  const text = `select ${database.names.quoted}.ack_events($1::text::uuid, $2::text::int8multirange)`;
  await translated(async () => tx.query(text, [token, toMultirange(offsets)]));
}

/** Says that a member is there for so long, 0: that it leaves; and which of how many it is. */
export async function renewMember(
  database: Database,
  group: GroupRef,
  member: string,
  ms: number,
): Promise<{ readonly place: number; readonly members: number }> {
  const [row] = await database.query<{ place: number; members: number }>(
    lazily(`${database.names.quoted}.renew_member($1, $2, $3)`),
    [String(group.id), member, ms],
    'sluice_renew_member',
  );
  return row ?? { place: 0, members: 1 };
}
