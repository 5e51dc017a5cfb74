// The shop's orders: its own table, and the one transaction that writes a row and publishes an event. This is the
// code the demo is about; what surrounds it is a web page. It must never publish outside the transaction of the row.

import type { Pool, PoolClient } from 'pg';
import type { NewOrder } from './body.ts';

/** The part of a stream the shop uses; the real one has more. */
export interface ShopStream {
  publish(data: unknown, options: { tx: PoolClient; type?: string }): Promise<unknown>;
  info(): Promise<{ readonly head: bigint; readonly oldest: bigint } | null>;
}

export type Ending = 'commit' | 'rollback';

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

/** Inserts the orders and publishes an event for each, in one transaction; answers their ids. */
export async function placeOrders(
  pool: Pool,
  stream: ShopStream,
  orders: readonly NewOrder[],
  ending: Ending,
): Promise<number[]> {
  const client = await pool.connect();
  let failure: Error | undefined;
  try {
    await client.query('begin');
    const ids: number[] = [];
    for (const order of orders) ids.push(await placeOrder(client, stream, order));
    await client.query(ending);
    return ids;
  } catch (error) {
    failure = error instanceof Error ? error : new Error(String(error));
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
): Promise<number> {
  const inserted = await client.query<{ id: number }>(
    'insert into sluice_demo.orders (item, quantity) values ($1, $2) returning id',
    [item, quantity],
  );
  const id = inserted.rows[0]!.id;
  await stream.publish({ id, item, quantity }, { tx: client, type: 'order.placed' });
  return id;
}

/** How many orders are committed. */
export async function countOrders(pool: Pool): Promise<number> {
  const { rows } = await pool.query<{ orders: string }>('select count(*) as orders from sluice_demo.orders');
  return Number(rows[0]!.orders);
}
