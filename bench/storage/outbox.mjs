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
const PASSES = 50;

/** @typedef {import('./outboxes.mjs').Outbox} Outbox */

/** @param {string} url @param {boolean} quick @returns {Promise<import('../support/report.mjs').Table[]>} */
export async function measureOutboxes(url, quick) {
  await withClient(url, async (client) => {
    for (const { install, schema } of outboxes) {
      await client.query(install);
      await client.query(`insert into ${schema}.streams (name) values ('hot')`);
    }
  });
  const published = await publishRates(url, quick ? { rounds: 1, ms: 700 } : { rounds: 3, ms: 1500 });
  return withClient(url, async (client) => {
    for (const outbox of outboxes) await drain(client, outbox);
    await vacuum(client);
    const fresh = await onePasses(client);
    const drained = await drainRates(
      client,
      quick ? { rounds: 1, backlog: 20_000 } : { rounds: 2, backlog: 100_000 },
    );
    await vacuum(client);
    const old = await behindSnapshot(url, async () => {
      await passThrough(client, quick ? 30_000 : 300_000);
      return { ...(await onePasses(client)), megabytes: await sizes(client) };
    });
    /** @param {Record<string, number[]>} results */
    const of = (results, /** @type {Outbox} */ { name }) => round(median(results[name] ?? []));
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
          'MB then',
        ],
        rows: outboxes.map((outbox) => [
          outbox.name,
          of(published, outbox),
          of(drained, outbox),
          of(fresh.empty, outbox),
          of(fresh.one, outbox),
          of(old.empty, outbox),
          of(old.one, outbox),
          of(old.megabytes, outbox),
        ]),
      },
    ];
  });
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

/** A backlog moved by one mover alone. @param {import('pg').Client} client @param {{ rounds: number, backlog: number }} how */
const drainRates = (client, { rounds, backlog }) =>
  eachInTurn(rounds, async (outbox) => {
    await fill(client, outbox, backlog);
    const started = performance.now();
    const moved = await drain(client, outbox);
    return (moved * 1000) / (performance.now() - started);
  });

/** So many events published and moved, a thousand at a time. @param {import('pg').Client} client @param {number} count */
const passThrough = (client, count) =>
  eachInTurn(count / EVENTS_PER_PASS, async (outbox) => {
    await fill(client, outbox, EVENTS_PER_PASS);
    await drain(client, outbox);
    if (outbox.rotate !== undefined) await client.query({ name: outbox.rotate, text: outbox.rotate });
  });

/** @template T @param {number} rounds @param {(outbox: Outbox) => Promise<T>} work */
const eachInTurn = (rounds, work) =>
  inTurn(rounds, Object.fromEntries(outboxes.map((outbox) => [outbox.name, () => work(outbox)])));

/** @param {import('pg').Client} client */
async function vacuum(client) {
  for (const { schema } of outboxes) await client.query(`vacuum analyze ${schema}.outbox`);
}

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

/** The time of passes that find one event, and of passes that find nothing. @param {import('pg').Client} client */
async function onePasses(client) {
  const pass = async (/** @type {Outbox} */ { pass: text }) => {
    const started = performance.now();
    await client.query({ name: text, text });
    return performance.now() - started;
  };
  const one = await eachInTurn(PASSES, async (outbox) => {
    await client.query(outbox.publish, ['hot', JSON.stringify(payload(3, 0)), 'order.paid']);
    return pass(outbox);
  });
  return { one, empty: await eachInTurn(PASSES, pass) };
}

/** Tables and indexes of the outbox, and what else its design needs. @param {import('pg').Client} client */
const sizes = (client) =>
  eachInTurn(1, async ({ schema }) => {
    const { rows } = await client.query(
      `select sum(pg_total_relation_size(c.oid))::double precision / 1e6 as megabytes
       from pg_class c where c.relnamespace = $1::regnamespace and c.relkind = 'r' and c.relname ~ '^(outbox|ticks)'`,
      [schema],
    );
    return Number(rows[0].megabytes);
  });
