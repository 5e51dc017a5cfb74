// One snapshot kept open, as a forgotten psql or a long report does, while two million events pass through the outbox:
// nothing dead may be removed behind it. Publishing and relaying before, behind the snapshot at the end, and after it.
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { withClient } from './support/server.mjs';
import { median } from './support/statistics.mjs';
import { orders, plainEvents } from './support/tables.mjs';

const TARGET = 0.5;
const CONNECTIONS = 4;
const PER_CALL = 500;

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const events = quick ? 100_000 : 2_000_000;
  const how = quick ? { rounds: 2, ms: 500, flood: 20_000 } : { rounds: 5, ms: 1500, flood: 50_000 };
  return server.withDatabase(async (url) => {
    await withClient(url, (client) => client.query(`${orders}; ${plainEvents}`));
    const relay = await startRole('relay', url);
    const publishers = await startRole('publishers', url, CONNECTIONS);
    try {
      await publishers.call('run', 'publish', CONNECTIONS, 300); // warm
      await publishers.call('flood', how.flood, PER_CALL);
      const before = await measure({ publishers, relay, url }, how);
      const behind = await withClient(url, async (client) => {
        await client.query('begin isolation level repeatable read');
        await client.query('select count(*) from orders'); // takes the snapshot, and keeps it
        for (let passed = 0; passed < events; passed += how.flood) {
          await publishers.call('flood', how.flood, PER_CALL);
        }
        const measured = await measure({ publishers, relay, url }, how);
        await client.query('commit');
        return measured;
      });
      await withClient(url, (client) => client.query('vacuum'));
      const after = await measure({ publishers, relay, url }, how);
      const part = (/** @type {'publish' | 'relay'} */ what) =>
        behind[what] / Math.max(before[what], after[what]);
      return {
        tables: [
          {
            title: `A snapshot held while ${events} events pass`,
            columns: [
              '',
              'publish, transactions /s',
              'published and moved, events /s',
              'an empty pass, ms',
              'outbox, MiB',
            ],
            rows: [row('before', before), row('behind it', behind), row('after it, vacuumed', after)],
          },
        ],
        targets: [
          {
            what: 'publish behind the snapshot against without',
            atLeast: TARGET,
            measured: part('publish'),
          },
          {
            what: 'published and moved behind it against without',
            atLeast: TARGET,
            measured: part('relay'),
          },
        ],
      };
    } finally {
      await publishers.stop();
      await relay.stop();
    }
  });
}

/**
 * @typedef {object} Measured
 * @property {number} publish
 * @property {number} relay
 * @property {number} passMs
 * @property {number} mebibytes
 */

/** @param {string} name @param {Measured} measured */
const row = (name, { publish, relay, passMs, mebibytes }) => [
  name,
  round(publish),
  round(relay),
  round(passMs),
  round(mebibytes),
];

/**
 * @param {{ publishers: import('./support/role.mjs').Role, relay: import('./support/role.mjs').Role, url: string }} roles
 * @param {{ rounds: number, ms: number, flood: number }} how
 * @returns {Promise<Measured>}
 */
async function measure({ publishers, url }, { rounds, ms, flood }) {
  const publish = [];
  const relay = [];
  for (let round = 0; round < rounds; round += 1) {
    publish.push((await publishers.call('run', 'publish', CONNECTIONS, ms)).perSecond);
    await publishers.call('drained');
    relay.push(await publishers.call('flood', flood, PER_CALL));
  }
  const [passMs, mebibytes] = await withClient(url, async (client) => {
    const times = [];
    for (let n = 0; n < 20; n += 1) {
      const started = performance.now();
      await client.query({ name: 'pass', text: 'select moved from sluice.pass()' });
      times.push(performance.now() - started);
    }
    const { rows } = await client.query(
      `select sum(pg_total_relation_size(c.oid)) / 1048576.0 as mib from pg_class c
       where c.relname like 'outbox%' and c.relkind = 'r' and c.relnamespace = 'sluice'::regnamespace`,
    );
    return [median(times), Number(rows[0].mib)];
  });
  return { publish: median(publish), relay: median(relay), passMs, mebibytes };
}
