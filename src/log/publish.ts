// Publishing: one insert into the outbox, in the caller's transaction or in one of its own. Holds nothing, waits for
// nobody; the relay assigns the offset after commit. Publishing outside a transaction by mistake would be a silent
// loss of atomicity, so an executor has to prove that it is inside one.
import type { Database } from '../db/database.ts';
import type { Queryable, SqlExecutor } from '../db/queryable.ts';
import { fromDatabase, translated } from '../db/sqlstate.ts';
import { SluiceError } from '../util/errors.ts';
import { toColumns, type EncodedEvent } from './encode.ts';

export interface PublishCall {
  readonly tx: SqlExecutor | undefined;
  readonly autoCreate: boolean;
}

/** Returns the outbox ids, in order. */
export async function publishEvents(
  database: Database,
  stream: string,
  events: readonly EncodedEvent[],
  { tx, autoCreate }: PublishCall,
): Promise<string[]> {
  const schema = database.names.quoted;
  const [text, values, name] =
    events.length === 1
      ? single(schema, stream, events[0] as EncodedEvent, autoCreate)
      : many(schema, stream, events, autoCreate);
  if (tx === undefined) return ids(await database.query<{ id: string }>(text, values, name));
  checkExecutor(tx);
  const status = isPgClient(tx) ? tx.getTransactionStatus() : null;
  if (status === 'I') throw notInTransaction();
  if (isPgClient(tx) && status !== null) {
    const statement = database.statementFor(tx, text, values, name);
    return ids((await translated(() => tx.query(statement))).rows as { id: string }[]);
  }
  await requireTransaction(tx);
  return ids((await translated(() => tx.query(text, values))).rows as { id: string }[]);
}

type Statement = [text: string, values: unknown[], name: string];

const single = (
  schema: string,
  stream: string,
  { data, type, key, headers }: EncodedEvent,
  autoCreate: boolean,
): Statement => [
  `select ${schema}.publish($1, $2, $3, $4, $5, $6)::text as id`,
  [stream, data, type, key, headers, autoCreate],
  'sluice_publish',
];

function many(
  schema: string,
  stream: string,
  events: readonly EncodedEvent[],
  autoCreate: boolean,
): Statement {
  const { data, types, keys, headers } = toColumns(events);
  return [
    `select id::text from ${schema}.publish_many($1, $2, $3, $4, $5, $6) id`,
    [stream, data, types, keys, headers, autoCreate],
    'sluice_publish_many',
  ];
}

const ids = (rows: readonly { id: string }[]): string[] => rows.map(({ id }) => id);

/** A pg client (8.21 or newer): it knows whether it is inside a transaction, and takes prepared statements. */
interface PgClient extends Queryable {
  getTransactionStatus(): string | null;
}

const isPgClient = (tx: object): tx is PgClient =>
  'getTransactionStatus' in tx && typeof tx.getTransactionStatus === 'function';

/** @throws TypeError for a pool, or something that cannot run a statement */
function checkExecutor(tx: SqlExecutor): void {
  if (typeof tx !== 'object' || tx === null || typeof tx.query !== 'function') {
    throw new TypeError(
      'tx must have a query(text, values) method, such as a pg client inside a transaction',
    );
  }
  if ('totalCount' in tx || 'idleCount' in tx) {
    throw new TypeError(
      'tx is a pool, whose statements run on any connection; check out a client, begin, and pass that',
    );
  }
}

/**
 * Executors other than pg clients cannot say where they are; a savepoint exists only inside a transaction.
 *
 * @throws SluiceError tx_required
 */
async function requireTransaction(tx: SqlExecutor): Promise<void> {
  try {
    await tx.query('savepoint sluice_publish', []);
    await tx.query('release savepoint sluice_publish', []);
  } catch (error) {
    if (isNoTransaction(error)) throw notInTransaction(error);
    throw fromDatabase(error);
  }
}

const isNoTransaction = (error: unknown): boolean =>
  typeof error === 'object' && error !== null && 'code' in error && error.code === '25P01';

const notInTransaction = (cause?: unknown): SluiceError =>
  new SluiceError(
    'tx_required',
    'tx is not inside a transaction, so the event could not be undone with it; begin first, or leave tx out',
    { cause },
  );
