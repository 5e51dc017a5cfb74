// Publishing: one insert into the outbox, in the caller's transaction or in one of its own. Holds nothing, waits for
// nobody; the relay assigns the offset after commit. The statements pass through drivers and libraries that are not
// ours: their parameters are text or a boolean with a cast, so that none infers a type and encodes JSON once more, and
// they answer rows of text.
import { textArrayLiteral } from '../db/array-literal.ts';
import type { Database } from '../db/database.ts';
import type { SqlExecutor } from '../db/queryable.ts';
import { translated } from '../db/sqlstate.ts';
import { isPgClient, requireTransaction } from '../db/transaction.ts';
import type { DueTime } from './delivery.ts';
import { toColumns } from './encode.ts';
import type { EncodedEvent } from './event.ts';

export interface PublishCall {
  readonly tx: SqlExecutor | undefined;
  readonly autoCreate: boolean;
  readonly idempotencyKey: string | undefined;
  /** Undefined: now. */
  readonly due: DueTime | undefined;
}

/** Returns the outbox ids, in order. */
export async function publishEvents(
  database: Database,
  stream: string,
  events: readonly EncodedEvent[],
  call: PublishCall,
): Promise<string[]> {
  const { tx, autoCreate, idempotencyKey, due } = call;
  const schema = database.names.quoted;
  const [text, values, name] =
    events.length === 1 && idempotencyKey === undefined && due === undefined
      ? single(schema, stream, events[0] as EncodedEvent, autoCreate)
      : many(schema, stream, events, call);
  if (tx === undefined) return ids(await database.query<{ id: string }>(text, values, name));
  const asked = requireTransaction(tx);
  if (asked) await asked;
  const { rows } = await translated(() =>
    isPgClient(tx) ? tx.query(database.statementFor(tx, text, values, name)) : tx.query(text, values),
  );
  if (rows.length !== events.length) throw noAnswer(events.length, rows.length);
  return ids(rows as { id: string }[]);
}

/** Of an executor that swallows them, nobody knows whether it has run the statement at all. */
const noAnswer = (expected: number, given: number): TypeError =>
  new TypeError(
    `tx.query must resolve to the rows that the server answered, ${expected} here, not ${given}; wrap what is no pg client with the function of its library in sluice/adapters`,
  );

type Statement = [text: string, values: unknown[], name: string];

const single = (
  schema: string,
  stream: string,
  { data, type, key, headers, visibleTo, exclude }: EncodedEvent,
  autoCreate: boolean,
): Statement => {
  const values = [stream, data, type, key, headers, autoCreate];
  const parameters = '$1::text, $2::text::json, $3::text, $4::text, $5::text::json, $6::boolean';
  // Two statements: what hardly any publish uses costs the others no parameters.
  return visibleTo === null && exclude === null
    ? [`select ${schema}.publish(${parameters})::text as id`, values, 'sluice_publish']
    : [
        `select ${schema}.publish(${parameters}, p_visible_to => $7::text, p_exclude => $8::text::uuid)::text as id`,
        [...values, visibleTo, exclude],
        'sluice_publish_to',
      ];
};

function many(
  schema: string,
  stream: string,
  events: readonly EncodedEvent[],
  { autoCreate, idempotencyKey, due }: PublishCall,
): Statement {
  const { data, types, keys, headers, visibleTo, exclude } = toColumns(events);
  return [
    `select id::text from ${schema}.publish_many(
       $1::text, $2::text, $3::text::text[], $4::text::text[], $5::text::text[], $6::boolean,
       p_idempotency_key => $7::text, p_deliver_at => $8::text::timestamptz, p_delay_ms => $9::text::double precision,
       p_visible_to => $10::text::text[], p_exclude => $11::text::uuid[]) id`,
    [
      stream,
      data,
      types && textArrayLiteral(types),
      keys && textArrayLiteral(keys),
      headers && textArrayLiteral(headers),
      autoCreate,
      idempotencyKey ?? null,
      due?.deliverAt ?? null,
      due?.delayMs ?? null,
      visibleTo && textArrayLiteral(visibleTo),
      exclude && textArrayLiteral(exclude),
    ],
    'sluice_publish_many',
  ];
}

const ids = (rows: readonly { id: string }[]): string[] => rows.map(({ id }) => id);
