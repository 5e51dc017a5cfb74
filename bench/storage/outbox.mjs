// How published events wait for their offset: three candidates under the same load, fresh and behind an open snapshot,
// which keeps vacuum from removing anything that was deleted since.
import { payload } from '../support/payload.mjs';
import { round } from '../support/report.mjs';
import { startRole } from '../support/role.mjs';
import { inTurn } from '../support/rounds.mjs';
import { withClient } from '../support/server.mjs';
import { median } from '../support/statistics.mjs';
import { outboxes } from './outboxes.mjs';

const WRITERS = 16;
const PER_TRANSACTION = 100;
const EVENTS_PER_PASS = 1000;

/** @typedef {import('./outboxes.mjs').Outbox} Outbox */

/** @param {string} url @param {boolean} quick @returns {Promise<import('../support/report.mjs').Table[]>} */
export async function measureOutboxes(url, quick) {
  await withClient(url, async (client) => {
    for (const { install, schema } of outboxes) {
      await client.query(install);
      await client.query(`insert into ${schema}.streams (name) values ('hot')`);
    }
  });
  const rates = await publishRates(url, quick ? { rounds: 1, ms: 700 } : { rounds: 3, ms: 1500 });
  const rows = [];
  for (const outbox of outboxes) {
    const sizes = quick ? { backlog: 20_000, through: 30_000 } : { backlog: 200_000, through: 300_000 };
    rows.push([
      outbox.name,
      round(median(rates[outbox.name] ?? [])),
      ...(await passTimes(url, outbox, sizes)),
    ]);
  }
  return [
    {
      title: `The outbox: ${WRITERS} writers on one stream while a mover runs; passes in milliseconds`,
      columns: [
        '',
        'published /s',
        'drained /s',
        'empty pass, fresh',
        'one event, fresh',
        'empty pass, old snapshot',
        'one event, old snapshot',
        'outbox MB then',
      ],
      rows,
    },
  ];
}

/** @param {string} url @param {{ rounds: number, ms: number }} how */
async function publishRates(url, { rounds, ms }) {
  const writers = await startRole('outbox', url, WRITERS);
  const mover = await startRole('outbox', url, 1);
  try {
    const rate = async (/** @type {Outbox} */ { publish, pass, rotate }) => {
      await mover.call('startMoving', pass, rotate);
      const perSecond = await writers.call('publish', publish, ms);
      await mover.call('stopMoving');
      return perSecond;
    };
    for (const outbox of outboxes) await writers.call('publish', outbox.publish, 200);
    return await inTurn(
      rounds,
      Object.fromEntries(outboxes.map((outbox) => [outbox.name, () => rate(outbox)])),
    );
  } finally {
    await writers.stop();
    await mover.stop();
  }
}

/** @param {string} url @param {Outbox} outbox @param {{ backlog: number, through: number }} sizes */
const passTimes = (url, outbox, { backlog, through }) =>
  withClient(url, async (client) => {
    await drain(client, outbox);
    await client.query(`vacuum analyze ${outbox.schema}.outbox`);
    const fresh = await onePasses(client, outbox);
    await fill(client, outbox, backlog);
    const started = performance.now();
    const drained = await drain(client, outbox);
    const perSecond = (drained * 1000) / (performance.now() - started);
    await client.query(`vacuum analyze ${outbox.schema}.outbox`);
    const old = await behindSnapshot(url, async () => {
      for (let n = 0; n < through; n += EVENTS_PER_PASS) {
        await fill(client, outbox, EVENTS_PER_PASS);
        await drain(client, outbox);
        if (outbox.rotate !== undefined) await client.query({ name: outbox.rotate, text: outbox.rotate });
      }
      return [...(await onePasses(client, outbox)), await outboxMegabytes(client, outbox.schema)];
    });
    return [perSecond, ...fresh, ...old].map(round);
  });

/**
 * With a transaction open that has a snapshot and does nothing.
 *
 * @template T
 * @param {string} url
 * @param {() => Promise<T>} work
 */
const behindSnapshot = (url, work) =>
  withClient(url, async (idle) => {
    await idle.query('begin isolation level repeatable read');
    await idle.query('select count(*) from pg_class');
    const result = await work();
    await idle.query('rollback');
    return result;
  });

/** Publishes so many events, in transactions of a hundred. @param {import('pg').Client} client @param {Outbox} outbox @param {number} count */
async function fill(client, { schema }, count) {
  const text = `
    insert into ${schema}.outbox (slot, stream_id, stream, type, data)
    select c.last_value, s.id, s.name, 'order.paid', $1::json
    from ${schema}.outbox_slot c, ${schema}.streams s, generate_series(1, ${PER_TRANSACTION}) where s.name = 'hot'`;
  for (let n = 0; n < count; n += PER_TRANSACTION) {
    await client.query({ name: `fill ${schema}`, text, values: [JSON.stringify(payload(2, n))] });
  }
}

/** Passes until nothing is left; how many events were moved. @param {import('pg').Client} client @param {Outbox} outbox */
async function drain(client, { pass }) {
  let total = 0;
  for (;;) {
    const { rows } = await client.query({ name: pass, text: pass });
    total += rows[0].moved;
    if (rows[0].moved === 0 && !rows[0].more) return total;
  }
}

/** The time of a pass that finds nothing, and of one that finds one event. @param {import('pg').Client} client @param {Outbox} outbox */
async function onePasses(client, { publish, pass }) {
  /** @type {number[]} */
  const empty = [];
  /** @type {number[]} */
  const one = [];
  for (let n = 0; n < 30; n += 1) {
    await client.query(publish, ['hot', JSON.stringify(payload(3, n)), 'order.paid']);
    for (const times of [one, empty]) {
      const started = performance.now();
      await client.query({ name: pass, text: pass });
      times.push(performance.now() - started);
    }
  }
  return [median(empty), median(one)];
}

/** Tables and indexes of the outbox, and what else its design needs. @param {import('pg').Client} client @param {string} schema */
async function outboxMegabytes(client, schema) {
  const { rows } = await client.query(
    `select sum(pg_total_relation_size(c.oid))::double precision / 1e6 as megabytes
     from pg_class c where c.relnamespace = $1::regnamespace and c.relkind = 'r' and c.relname ~ '^(outbox|ticks)'`,
    [schema],
  );
  return rows[0].megabytes;
}
