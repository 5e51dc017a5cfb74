// The least that shared consuming of a log can cost: a cursor in a row, and a range read behind it. What is read counts as
// acknowledged before it is handled, so who crashes loses it; nothing is retried. One writer: the order is that of ids.
import { endClients, openBell, openClients, openSender, startLoops } from '../loops.mjs';
import { countOf, fill, settle } from '../waiting.mjs';
import { withClient } from '../../support/server.mjs';

/** @type {import('../system.mjs').System['install']} */
export const install = (url) =>
  withClient(url, (client) =>
    client.query(
      `create table bench_log (id bigint generated always as identity primary key, data json not null);
       create table bench_cursor (next bigint not null);
       insert into bench_cursor values (1)`,
    ),
  );

/** @type {import('../system.mjs').System['load']} */
export async function load(url, count) {
  await fill(
    url,
    'truncate bench_log restart identity; truncate bench_cursor; insert into bench_cursor values (1)',
    'insert into bench_log (data) select data from json_array_elements($1) as data',
    count,
  );
  await settle(url, 'bench_log, bench_cursor');
  return undefined;
}

/** @type {import('../system.mjs').System['left']} */
export const left = (url) =>
  countOf(url, 'select count(*) from bench_log where id >= (select next from bench_cursor)');

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  const clients = await openClients(url);
  const bell = await openBell(url, 'bench_log');
  return {
    start: async ({ consumers, batch }, handle) =>
      startLoops(clients.slice(0, consumers), bell, async (client) => {
        const { rows } = await client.query({
          name: `take ${batch}`,
          text: `with position as (select next from bench_cursor for update),
                 page as materialized (
                   select id, data from bench_log where id >= (select next from position) order by id limit ${batch}),
                 moved as (
                   update bench_cursor set next = (select max(id) + 1 from page) where exists (select from page))
                 select data from page`,
        });
        for (const { data } of rows) handle(data);
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
    `with sent as (insert into bench_log (data) values ($1)) select pg_notify('bench_log', '')`,
    1,
  );
