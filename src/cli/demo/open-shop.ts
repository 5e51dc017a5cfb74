// The demo shop with a pool of its own, as `sluice dev --demo` mounts it.
import { Pool } from 'pg';
import type { LoggerLike, Sluice } from '../../index.ts';
import { createShop, type Shop } from './shop.ts';

export interface OpenShop extends Pick<Shop, 'handle'> {
  close(): Promise<void>;
}

export interface OpenShopOptions {
  readonly sluice: Sluice;
  readonly connectionString: string;
  readonly logger: LoggerLike;
}

/** Creates what the shop needs in the database. */
export async function openShop({ sluice, connectionString, logger }: OpenShopOptions): Promise<OpenShop> {
  const pool = new Pool({ connectionString, application_name: 'sluice demo' });
  // A connection that dies while idle: the next order opens another one.
  pool.on('error', (error) => logger.warn({ error }, 'an idle connection of the demo was lost'));
  const shop = createShop({ sluice, pool, logger });
  try {
    await shop.prepare();
  } catch (error) {
    await pool.end();
    throw error;
  }
  return { handle: (request) => shop.handle(request), close: () => pool.end() };
}
