// Owns the judgement of a history: what writers attempted, what the logs hold, what readers saw; which of I1 to I3 it
// breaks, and how. Pure, in the manner of Jepsen's checkers: values are unique (`writer:n`), an outcome may be unknown,
// losses are told apart by where they lie. Knows nothing of Postgres, so that other designs can be judged alike.

export type Outcome = 'ok' | 'rolled-back' | 'unknown';

export interface Written {
  readonly stream: string;
  /** `writer:n`, unique in the history; n rises with each event of the writer. */
  readonly value: string;
  /** The offset that the writer was told, if it was. */
  readonly offset?: bigint | undefined;
}

/** What was rolled back to a savepoint is a transaction of its own that was rolled back. */
export interface Transaction {
  readonly writer: string;
  /** `unknown`: the connection died around the commit. */
  readonly outcome: Outcome;
  /** Before the first statement was sent; milliseconds of one monotonic clock. */
  readonly begunAt: number;
  /** After the commit was acknowledged; only with outcome ok. */
  readonly acknowledgedAt?: number | undefined;
  /** In the order they were written. */
  readonly events: readonly Written[];
}

export interface Seen {
  readonly offset: bigint;
  readonly value: string;
  readonly cursor: string;
}

export interface Reading {
  readonly reader: string;
  readonly stream: string;
  /** It asked for everything after this offset, and had time to get it. */
  readonly after: bigint;
  readonly events: readonly Seen[];
}

export interface History {
  readonly transactions: readonly Transaction[];
  /** Each stream's log once everything had come to rest. */
  readonly logs: ReadonlyMap<string, readonly Seen[]>;
  readonly readings: readonly Reading[];
  /** Heads of streams that somebody saw on the way. */
  readonly heads?: readonly { readonly stream: string; readonly head: bigint }[] | undefined;
}

export type Rule =
  | 'I1 dense' // offsets are 1, 2, 3 …
  | 'I1 once' // no value stands twice in the logs
  | 'I1 real time' // committed before another began: stands first
  | 'I1 writer order' // the same, or within one transaction, for one writer
  | 'I1 together' // the events of one transaction in one stream stand side by side, and appear at once
  | 'I1 told' // the offset an append returned is the event's
  | 'I2 lost'
  | 'I2 doubled'
  | 'I2 order'
  | 'I2 other' // an offset with another value or cursor than the log's, or none of the log's
  | 'I3 lost' // committed and in no log
  | 'I3 torn' // a transaction of which a part is there
  | 'I3 undone' // rolled back and in a log
  | 'I3 made up'; // written by nobody, or to another stream

/** Where what was lost lies: before, between or after what was seen; `whole` when nothing was seen. */
export type Loss = 'prefix' | 'middle' | 'postfix' | 'whole';

export interface Violation {
  readonly rule: Rule;
  readonly detail: string;
  readonly loss?: Loss | undefined;
}

interface Origin {
  readonly transaction: Transaction;
  readonly written: Written;
}

/** Everything that is wrong with the history; empty when nothing is. */
export function checkHistory(history: History): Violation[] {
  const origins = new Map<string, Origin>();
  for (const transaction of history.transactions)
    for (const written of transaction.events) origins.set(written.value, { transaction, written });
  return [
    ...[...history.logs].flatMap(([stream, log]) => [
      ...checkOffsets(stream, log),
      ...checkOrigins(stream, log, origins),
      ...checkOrder(stream, log, origins),
      ...checkTogether(stream, log, origins, history),
    ]),
    ...checkOutcomes(history),
    ...history.readings.flatMap((reading) => checkReading(reading, history.logs.get(reading.stream) ?? [])),
  ];
}

/** One line per rule and kind of loss: how often, and the first examples. Empty text: nothing is wrong. */
export function summarize(violations: readonly Violation[], examples = 3): string {
  const groups = new Map<string, Violation[]>();
  for (const violation of violations) {
    const name = violation.loss === undefined ? violation.rule : `${violation.rule} (${violation.loss})`;
    groups.set(name, [...(groups.get(name) ?? []), violation]);
  }
  return [...groups]
    .map(([name, found]) => {
      const told = found.slice(0, examples).map(({ detail }) => detail);
      return `${name}: ${found.length}, such as ${told.join('; ')}`;
    })
    .join('\n');
}

function checkOffsets(stream: string, log: readonly Seen[]): Violation[] {
  return log.flatMap(({ offset, value }, index) =>
    offset === BigInt(index + 1)
      ? []
      : [{ rule: 'I1 dense', detail: `${stream}: event ${index + 1}, ${value}, is at offset ${offset}` }],
  );
}

function checkOrigins(
  stream: string,
  log: readonly Seen[],
  origins: ReadonlyMap<string, Origin>,
): Violation[] {
  const values = new Set<string>();
  return log.flatMap(({ value, offset }): Violation[] => {
    const at = `${stream}@${offset}: ${value}`;
    const found: Violation[] = [];
    if (values.has(value)) found.push({ rule: 'I1 once', detail: `${at} stands there again` });
    values.add(value);
    const origin = origins.get(value);
    if (origin?.written.stream !== stream) {
      return [...found, { rule: 'I3 made up', detail: `${at} was not written to this stream` }];
    }
    if (origin.transaction.outcome === 'rolled-back')
      found.push({ rule: 'I3 undone', detail: `${at} was rolled back` });
    if (origin.written.offset !== undefined && origin.written.offset !== offset)
      found.push({ rule: 'I1 told', detail: `${at}; its writer was told ${origin.written.offset}` });
    return found;
  });
}

// Along the log, the latest beginning so far must not lie after the acknowledgement of what comes next.
function checkOrder(stream: string, log: readonly Seen[], origins: ReadonlyMap<string, Origin>): Violation[] {
  const found: Violation[] = [];
  const lastOf = new Map<Transaction, number>();
  let latest: Origin | undefined;
  for (const { value, offset } of log) {
    const origin = origins.get(value);
    if (!origin) continue;
    const { transaction } = origin;
    const { acknowledgedAt = Infinity, writer, begunAt } = transaction;
    if (latest && acknowledgedAt < latest.transaction.begunAt) {
      found.push({
        rule: latest.transaction.writer === writer ? 'I1 writer order' : 'I1 real time',
        detail: `${stream}@${offset}: ${value} was committed ${(latest.transaction.begunAt - acknowledgedAt).toFixed(3)} ms before ${latest.written.value} began, which stands before it`,
      });
    }
    if (!latest || begunAt > latest.transaction.begunAt) latest = origin;
    const place = transaction.events.indexOf(origin.written);
    const before = lastOf.get(transaction) ?? -1;
    if (place < before) {
      const detail = `${stream}@${offset}: ${value} stands after ${transaction.events[before]?.value} of its transaction`;
      found.push({ rule: 'I1 writer order', detail });
    }
    lastOf.set(transaction, Math.max(place, before));
  }
  return found;
}

function checkTogether(
  stream: string,
  log: readonly Seen[],
  origins: ReadonlyMap<string, Origin>,
  { heads = [] }: History,
): Violation[] {
  const found: Violation[] = [];
  const ended = new Set<Transaction>();
  let current: Transaction | undefined;
  const inside = new Set<bigint>(); // offsets after which the same transaction goes on
  let last = 0n;
  for (const { value, offset } of log) {
    const transaction = origins.get(value)?.transaction;
    if (transaction && transaction === current) inside.add(last);
    else if (current) ended.add(current);
    if (transaction && transaction !== current && ended.has(transaction)) {
      const detail = `${stream}@${offset}: ${value} stands apart from the rest of its transaction`;
      found.push({ rule: 'I1 together', detail });
    }
    current = transaction;
    last = offset;
  }
  for (const seen of heads) {
    if (seen.stream !== stream || !inside.has(seen.head)) continue;
    const detail = `${stream}: the head was seen at ${seen.head}, inside a transaction`;
    found.push({ rule: 'I1 together', detail });
  }
  return found;
}

function checkOutcomes({ transactions, logs }: History): Violation[] {
  const logged = new Set([...logs.values()].flatMap((log) => log.map(({ value }) => value)));
  const lost: { readonly written: Written; readonly at: number }[] = [];
  const kept: typeof lost = [];
  const found: Violation[] = [];
  for (const transaction of transactions) {
    const { outcome, events, acknowledgedAt = 0 } = transaction;
    const missing = events.filter(({ value }) => !logged.has(value));
    if (outcome !== 'rolled-back' && missing.length > 0 && missing.length < events.length) {
      const detail = `${missing.map(({ value }) => value).join(', ')} of ${events.map(({ value }) => value).join(', ')} (${outcome})`;
      found.push({ rule: 'I3 torn', detail });
    }
    if (outcome !== 'ok') continue;
    for (const written of events) {
      (logged.has(written.value) ? kept : lost).push({ written, at: acknowledgedAt });
    }
  }
  for (const { written, at } of lost) {
    const times = kept.filter((other) => other.written.stream === written.stream).map((other) => other.at);
    const detail = `${written.value}, committed to ${written.stream}, is in no log`;
    found.push({ rule: 'I3 lost', detail, loss: lossAt(at, times) });
  }
  return found;
}

function checkReading({ reader, stream, after, events }: Reading, log: readonly Seen[]): Violation[] {
  const expected = log.filter(({ offset }) => offset > after);
  const byOffset = new Map(expected.map((entry) => [entry.offset, entry]));
  const seen = new Set<bigint>();
  const found: Violation[] = [];
  let previous = after;
  for (const { offset, value, cursor } of events) {
    const at = `${reader} of ${stream}@${offset}: ${value}`;
    const entry = byOffset.get(offset);
    if (entry?.value !== value || entry.cursor !== cursor) {
      const detail = `${at} (${cursor}), where the log has ${entry ? `${entry.value} (${entry.cursor})` : 'nothing for it'}`;
      found.push({ rule: 'I2 other', detail });
    }
    if (seen.has(offset)) found.push({ rule: 'I2 doubled', detail: `${at} came again` });
    else if (offset <= previous) found.push({ rule: 'I2 order', detail: `${at} came after ${previous}` });
    seen.add(offset);
    previous = offset;
  }
  const offsets = [...seen].map(Number);
  for (const { offset, value } of expected) {
    if (seen.has(offset)) continue;
    const detail = `${reader} of ${stream} never got ${value} at ${offset}`;
    found.push({ rule: 'I2 lost', detail, loss: lossAt(Number(offset), offsets) });
  }
  return found;
}

function lossAt(place: number, others: readonly number[]): Loss {
  if (others.length === 0) return 'whole';
  if (others.every((other) => other > place)) return 'prefix';
  return others.every((other) => other < place) ? 'postfix' : 'middle';
}
