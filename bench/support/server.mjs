// Owns the PostgreSQL server that is measured: an embedded one that flushes as a real one does, or, with DATABASE_URL
// set, that one. Each benchmark gets a database of its own, and leaves none behind.
import { existsSync } from 'node:fs';
import { Client } from 'pg';
import { migrate } from 'sluice';
import { startPostgres } from 'sluice/embedded';
import { measureFlush } from './flush.mjs';

// Everything else as PostgreSQL sets it; fsync, synchronous_commit and full_page_writes are on.
const SETTINGS = { shared_buffers: '1GB', min_wal_size: '2GB', max_wal_size: '4GB', max_connections: '200' };
const WAL_SEGMENTS = 110;

/**
 * @typedef {object} Server
 * @property {string} version
 * @property {Readonly<Record<string, string>>} settings what a write costs depends on these
 * @property {() => number | null} flushMs the median flush of the disk the data is on; null: not a local server
 * @property {(work: (url: string) => Promise<unknown>) => Promise<unknown>} withDatabase
 * @property {() => Promise<void>} stop
 */

/** @returns {Promise<Server>} */
export async function openServer() {
  const given = process.env['DATABASE_URL'];
  const embedded = given ? undefined : await startPostgres({ settings: SETTINGS });
  const url = given ?? embedded?.connectionString ?? '';
  if (embedded) await withClient(url, fillWal);
  const settings = await withClient(url, readSettings);
  const folder = embedded?.dataDir ?? settings['data_directory'];
  return {
    version: settings['server_version'] ?? '',
    settings: pick(settings, [
      'fsync',
      'synchronous_commit',
      'shared_buffers',
      'max_wal_size',
      'wal_sync_method',
    ]),
    flushMs: () => (folder !== undefined && existsSync(folder) ? measureFlush(folder) : null),
    withDatabase: (work) => inNewDatabase(url, work),
    stop: async () => embedded?.stop(),
  };
}

/**
 * @template T
 * @param {string} url
 * @param {(client: Client) => Promise<T>} work
 */
export async function withClient(url, work) {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return await work(client);
  } finally {
    await client.end();
  }
}

/**
 * A server that has run for a while writes its log into segments it has written before; a new one fills each with
 * zeros first, for milliseconds in the middle of somebody's commit.
 *
 * @param {Client} client
 */
async function fillWal(client) {
  for (let n = 0; n < WAL_SEGMENTS; n += 1) {
    await client.query(`select pg_logical_emit_message(false, 'bench', 'x')`);
    await client.query('select pg_switch_wal()');
  }
  await client.query('checkpoint');
  await client.query('checkpoint');
}

/** @param {string} url @param {(url: string) => Promise<unknown>} work */
async function inNewDatabase(url, work) {
  const name = `sluice_bench_${process.pid}_${Math.trunc(performance.now())}`;
  await withClient(url, (client) => client.query(`create database ${name}`));
  const target = new URL(url);
  target.pathname = `/${name}`;
  try {
    await migrate({ connectionString: target.href });
    return await work(target.href);
  } finally {
    await withClient(url, (client) => client.query(`drop database ${name} with (force)`));
  }
}

/** @param {Client} client @returns {Promise<Record<string, string>>} */
async function readSettings(client) {
  const { rows } = await client.query('select name, current_setting(name, true) as value from pg_settings');
  return Object.fromEntries(rows.map(({ name, value }) => [name, value]));
}

/** @param {Record<string, string>} all @param {string[]} names */
const pick = (all, names) => Object.fromEntries(names.map((name) => [name, all[name] ?? '']));
