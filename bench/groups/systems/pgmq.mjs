// pgmq without the extension: the parts of its SQL that are used here, written after its documentation. A table per
// queue whose messages are invisible until their time (vt); a read takes those that are visible past locked ones, counts
// it and hides them; they are deleted when they were handled. Waiting is polling, here every 10 ms (by default 100).
import { createBell, endClients, openClients, openSender, startLoops } from '../loops.mjs';
import { countOf, fill, settle } from '../waiting.mjs';
import { withClient } from '../../support/server.mjs';

const POLL_MS = 10;
const VISIBLE_AGAIN_S = 30;

const SQL = `
  create schema bench_mq;
  create type bench_mq.message as (
    msg_id bigint, read_ct integer, enqueued_at timestamptz, vt timestamptz, message jsonb);
  create table bench_mq.q_events (
    msg_id bigint generated always as identity primary key, read_ct integer not null default 0,
    enqueued_at timestamptz not null default now(), vt timestamptz not null, message jsonb);
  create index on bench_mq.q_events (vt);

  create function bench_mq.send(queue text, message jsonb, delay_s integer default 0) returns setof bigint
  language plpgsql as $$
  begin
    return query execute format(
      'insert into bench_mq.%I (vt, message) values (clock_timestamp() + $2, $1) returning msg_id', 'q_' || queue)
      using message, make_interval(secs => delay_s);
  end $$;

  create function bench_mq.read(queue text, hidden_s integer, quantity integer) returns setof bench_mq.message
  language plpgsql as $$
  begin
    return query execute format(
      'with visible as (
         select msg_id from bench_mq.%1$I where vt <= clock_timestamp() order by msg_id limit $1
         for update skip locked)
       update bench_mq.%1$I m set vt = clock_timestamp() + $2, read_ct = m.read_ct + 1
       from visible where m.msg_id = visible.msg_id
       returning m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message', 'q_' || queue)
      using quantity, make_interval(secs => hidden_s);
  end $$;

  create function bench_mq.delete(queue text, ids bigint[]) returns setof bigint
  language plpgsql as $$
  begin
    return query execute format(
      'delete from bench_mq.%I where msg_id = any($1) returning msg_id', 'q_' || queue) using ids;
  end $$`;

/** @type {import('../system.mjs').System['install']} */
export const install = (url) => withClient(url, (client) => client.query(SQL));

/** @type {import('../system.mjs').System['load']} */
export async function load(url, count) {
  await fill(
    url,
    'truncate bench_mq.q_events restart identity',
    `insert into bench_mq.q_events (vt, message)
     select clock_timestamp(), message from jsonb_array_elements($1) as message`,
    count,
  );
  await settle(url, 'bench_mq.q_events');
  return undefined;
}

/** @type {import('../system.mjs').System['left']} */
export const left = (url) => countOf(url, 'select count(*) from bench_mq.q_events');

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  const clients = await openClients(url);
  return {
    start: async ({ consumers, batch }, handle) =>
      startLoops(clients.slice(0, consumers), createBell(POLL_MS), async (client) => {
        const { rows } = await client.query({
          name: 'read',
          text: `select msg_id, message from bench_mq.read('events', $1, $2)`,
          values: [VISIBLE_AGAIN_S, batch],
        });
        if (rows.length === 0) return 0;
        for (const { message } of rows) handle(message);
        const ids = rows.map(({ msg_id }) => msg_id).sort((a, b) => a - b); // else two of them can deadlock
        await client.query({ name: 'delete', text: `select bench_mq.delete('events', $1)`, values: [ids] });
        return rows.length;
      }),
    close: () => endClients(clients),
  };
}

/** @type {import('../system.mjs').System['openProducer']} */
export const openProducer = (url) => openSender(url, `select bench_mq.send('events', $1)`);
