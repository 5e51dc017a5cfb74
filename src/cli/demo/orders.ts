// The shop's orders: its own table, and the one transaction that writes a row and publishes an event. This is the
// code the demo is about; what surrounds it is a web page. It must never publish outside the transaction of the row.

import type { Pool, PoolClient } from 'pg';
import { asError } from '../../util/errors.ts';
import type { NewOrder } from './body.ts';

/** The part of a stream the shop uses; the real one has more. */
export interface ShopStream {
  publish(data: unknown, options: { tx: PoolClient; type?: string; delayMs?: number }): Promise<unknown>;
  info(): Promise<{ readonly head: bigint; readonly oldest: bigint } | null>;
}

export type Ending = 'commit' | 'rollback';

export interface Placing {
  readonly ending: Ending;
  /** How long after this the orders' time comes and their events are due, in milliseconds. Default 0. */
  readonly delayMs?: number | undefined;
}

// Two processes may start on one database at once, and `if not exists` alone fails when they meet.
const createTable = `
  select pg_advisory_xact_lock(hashtext('sluice_demo.orders'));
  create schema if not exists sluice_demo;
  create table if not exists sluice_demo.orders (
    id integer generated always as identity primary key,
    item text not null,
    quantity integer not null check (quantity > 0),
    placed_at timestamptz not null default now()
  )`;

/** Creates the orders table if it is missing. */
export async function createOrdersTable(pool: Pool): Promise<void> {
  // Several statements in one simple query are one transaction, which is what the lock lasts for.
  await pool.query(createTable);
}

/** Inserts the orders and publishes an event for each, in one transaction; answers their ids. An order is `placed_at` its time. */
export async function placeOrders(
  pool: Pool,
  stream: ShopStream,
  orders: readonly NewOrder[],
  { ending, delayMs = 0 }: Placing,
): Promise<number[]> {
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query('begin');
    const ids: number[] = [];
    for (const order of orders) ids.push(await placeOrder(client, stream, order, delayMs));
    await client.query(ending);
    return ids;
  } catch (error) {
    failure = asError(error);
    throw error;
  } finally {
    // With an error the pool closes the connection, which rolls back whatever it was in the middle of.
    client.release(failure);
  }
}

async function placeOrder(
  client: PoolClient,
  stream: ShopStream,
  { item, quantity }: NewOrder,
  delayMs: number,
): Promise<number> {
  // The row first: its time is then never after its event's, so no event arrives whose order is not counted yet.
  const inserted = await client.query<{ id: number }>(
    `insert into sluice_demo.orders (item, quantity, placed_at)
     values ($1, $2, clock_timestamp() + $3 * interval '1 ms') returning id`,
    [item, quantity, delayMs],
  );
  const id = inserted.rows[0]!.id;
  await stream.publish({ id, item, quantity }, { tx: client, type: 'order.placed', delayMs });
  return id;
}

export interface OrderCounts {
  /** Committed, and their time has come: their events are in the stream or about to be. */
  readonly orders: number;
  /** Committed, their time still to come. */
  readonly later: number;
}

/** How many orders are committed. */
export async function countOrders(pool: Pool): Promise<OrderCounts> {
  // Each row is asked once, so it is in one of the two counts; and by a clock read after the snapshot was taken, unlike
  // now(), so an order that was placed meanwhile is none for later.
  const { rows } = await pool.query<{ all: string; later: string }>(
    `select count(*) as all, count(*) filter (where placed_at > clock_timestamp()) as later
     from sluice_demo.orders`,
  );
  const { all, later } = rows[0]!;
  return { orders: Number(all) - Number(later), later: Number(later) };
}
