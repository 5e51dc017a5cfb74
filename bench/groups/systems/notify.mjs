// The least that an event can take from one process to a handler in another: its row committed, and a NOTIFY in the same
// statement to a LISTEN. Nothing is read and nothing acknowledged.
import { openClients } from '../loops.mjs';
import { Pool } from 'pg';
import { withClient } from '../../support/server.mjs';

/** @type {import('../system.mjs').System['install']} */
export const install = (url) =>
  withClient(url, (client) =>
    client.query(
      'create table bench_notified (id bigint generated always as identity primary key, data json not null)',
    ),
  );

/** @type {import('../system.mjs').System['load']} */
export const load = async () => undefined;

/** @type {import('../system.mjs').System['left']} */
export const left = async () => 0;

/** @type {import('../system.mjs').System['openConsumers']} */
export async function openConsumers(url) {
  return {
    async start(_how, handle) {
      const [client] = await openClients(url, 1);
      client?.on('notification', ({ payload = '' }) => handle({ id: '', at: payload }));
      await client?.query('listen bench_notified');
      return { settled: async () => {}, stop: async () => client?.end() };
    },
    close: async () => {},
  };
}

/** @type {import('../system.mjs').System['openProducer']} */
export async function openProducer(url) {
  const pool = new Pool({ connectionString: url, max: 10 });
  const text = `with sent as (insert into bench_notified (data) values ($1)) select pg_notify('bench_notified', $2)`;
  return {
    send: (data) =>
      pool.query({
        name: 'send',
        text,
        values: [JSON.stringify(data), /** @type {import('../system.mjs').Data} */ (data).at],
      }),
    close: () => pool.end(),
  };
}
