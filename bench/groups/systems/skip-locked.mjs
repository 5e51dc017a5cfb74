// What somebody writes who needs a queue and nothing else: rows that are deleted in the transaction in which they are
// handled, past those that others have locked. No retries, no leases: who crashes leaves them as they were.
import { endClients, openBell, openClients, openSender, startLoops } from '../loops.mjs';
import { countOf, fill, settle } from '../waiting.mjs';
import { withClient } from '../../support/server.mjs';

/** @type {import('../system.mjs').System['install']} */
export const install = (url) =>
  withClient(url, (client) =>
    client.query(
      'create table bench_jobs (id bigint generated always as identity primary key, data json not null)',
    ),
  );

/** @type {import('../system.mjs').System['load']} */
export async function load(url, count) {
  await fill(
    url,
    'truncate bench_jobs restart identity',
    'insert into bench_jobs (data) select data from json_array_elements($1) as data',
    count,
  );
  await settle(url, 'bench_jobs');
  return undefined;
}

/** @type {import('../system.mjs').System['left']} */
export const left = (url) => countOf(url, 'select count(*) from bench_jobs');

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  const clients = await openClients(url);
  const bell = await openBell(url, 'bench_jobs');
  return {
    start: async ({ consumers, batch }, handle) =>
      startLoops(clients.slice(0, consumers), bell, async (client) => {
        await client.query('begin');
        const { rows } = await client.query({
          name: `take ${batch}`,
          text: `delete from bench_jobs where id = any(array(
                   select id from bench_jobs order by id limit ${batch} for update skip locked)) returning data`,
        });
        for (const { data } of rows) handle(data);
        await client.query('commit');
        return rows.length;
      }),
    async close() {
      await endClients(clients);
      await bell.close();
    },
  };
}

/** @type {import('../system.mjs').System['openProducer']} */
export const openProducer = (url) =>
  openSender(
    url,
    `with sent as (insert into bench_jobs (data) values ($1)) select pg_notify('bench_jobs', '')`,
  );
