// Compares what the database has committed with what this page was handed, and puts the result in words.
//
// Pure. It must never accuse wrongly, nor acquit: the orders table may be older than the page, the stream may carry
// events that are not orders, and the server's count is always a little older or newer than the page's. Hence the
// baseline: the smallest surplus of committed over delivered orders observed is what was there before the page.

import { count, startTally, type Tally } from './tally.ts';

export type Status = 'connecting' | 'live' | 'dropped';

export interface Ledger {
  /** Which count this is; a report asked for during another one says nothing about it. */
  readonly epoch: number;
  readonly tally: Tally;
  /** The stream's last offset, as last reported. */
  readonly head: bigint;
  /** Delivered events that are orders of this shop; the rest was published by somebody else. */
  readonly ordersDelivered: number;
  /** Rows in the orders table whose time has come, as last reported; null before the first report. */
  readonly ordersCommitted: number | null;
  /** Rows whose events lie before this page's starting point; null until a report allows to tell. */
  readonly baseline: number | null;
}

/** What the server says of its own accord. */
export interface Report {
  readonly orders: number;
  readonly head: bigint;
}

/** A ledger for what follows offset `after` of a stream that ends at `head`; `previous` is the one it replaces. */
export function openLedger(after: bigint, head: bigint, previous?: Ledger): Ledger {
  const epoch = previous ? previous.epoch + 1 : 0;
  return { epoch, tally: startTally(after), head, ordersDelivered: 0, ordersCommitted: null, baseline: null };
}

/** The ledger after an event was delivered. */
export function deliver(ledger: Ledger, offset: bigint, isOrder: boolean): Ledger {
  const tally = count(ledger.tally, offset);
  const isNew = tally.delivered > ledger.tally.delivered;
  return { ...ledger, tally, ordersDelivered: ledger.ordersDelivered + (isOrder && isNew ? 1 : 0) };
}

/**
 * The ledger after a report. `asked` is the ledger at the moment it was asked for: everything delivered by then is among
 * the reported rows, which cannot be said of what arrived while waiting. While the page is still catching up, the
 * surplus says nothing about what was there before it.
 */
export function report(ledger: Ledger, { orders, head }: Report, asked: Ledger): Ledger {
  if (asked.epoch !== ledger.epoch) return ledger;
  const surplus = orders - asked.ordersDelivered;
  const caughtUp = asked.tally.last >= asked.head;
  const baseline = caughtUp ? Math.min(ledger.baseline ?? surplus, surplus) : ledger.baseline;
  return { ...ledger, head, ordersCommitted: orders, baseline };
}

/** How many events are known to be committed since the page's starting point, delivered or not; null: not known yet. */
export function committed(ledger: Ledger): number | null {
  if (ledger.ordersCommitted === null || ledger.baseline === null) return null;
  const { delivered } = ledger.tally;
  const others = delivered - ledger.ordersDelivered;
  return Math.max(delivered, ledger.ordersCommitted - ledger.baseline + others);
}

/** How many events are known to exist and have not been delivered. */
export function outstanding(ledger: Ledger): number {
  const inTable = (committed(ledger) ?? 0) - ledger.tally.delivered;
  const inStream = Number(ledger.head - ledger.tally.last);
  return Math.max(0, inTable, inStream);
}

export interface Verdict {
  readonly text: string;
  readonly tone: 'good' | 'waiting' | 'bad';
}

/** While connected, a committed event may take this long before it is called missing. */
const patienceMs = 20_000;

/** What the numbers say. `quietMs`: how long the page has been live and owed an event without a delivery. */
export function verdict(ledger: Ledger, status: Status, quietMs: number): Verdict {
  const { tally } = ledger;
  const faults = [
    plural(tally.gaps, 'offset missing', 'offsets missing'),
    plural(tally.duplicates, 'duplicate', 'duplicates'),
    plural(tally.reordered, 'out of order', 'out of order'),
  ].filter((fault) => fault !== '');
  if (faults.length > 0) return { text: faults.join(', '), tone: 'bad' };

  const missing = outstanding(ledger);
  if (missing > 0 && status === 'live' && quietMs > patienceMs) {
    return {
      text: `${plural(missing, 'committed event has', 'committed events have')} not arrived`,
      tone: 'bad',
    };
  }
  if (missing > 0) return { text: `${missing} still to come`, tone: 'waiting' };
  if (tally.delivered === 0) return { text: 'waiting for the first order', tone: 'waiting' };
  return { text: 'no gap, no duplicate', tone: 'good' };
}

function plural(n: number, one: string, many: string): string {
  if (n === 0) return '';
  return `${n} ${n === 1 ? one : many}`;
}
