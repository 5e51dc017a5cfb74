// Publishing in a transaction of the user's, on one hot stream, against the same transaction with a plain insert of the
// same row: what does it cost to get dense, commit-ordered offsets? The relay runs in its own process all the time, so
// that its work is part of the price. The user's transaction: begin, insert an order, publish (or insert), commit. What an
// outbox costs whoever makes it: the same with one written by hand, which promises less and is moved by a process as well.
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { withClient } from './support/server.mjs';
import { compare, median } from './support/statistics.mjs';
import { orders, outboxByHand, plainEvents } from './support/tables.mjs';

const TARGET = 0.9;
const CONNECTIONS = [1, 4, 16];
/** A local disk that flushes honestly, and a network disk. */
const SLOW_FLUSHES_MS = [1, 4];

/** @typedef {{ rounds: number, ms: number }} How */

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const how = quick ? { rounds: 2, ms: 500 } : { rounds: 4, ms: 1500 };
  return server.withDatabase(async (url) => {
    await withClient(url, (client) => client.query(`${orders}; ${plainEvents}; ${outboxByHand}`));
    const fast = await measure(url, CONNECTIONS, how);
    /** @type {{ flushMs: number, results: Awaited<ReturnType<typeof measure>> }[]} */
    const slow = [];
    for (const flushMs of SLOW_FLUSHES_MS) {
      if (await slowFlush(url, flushMs)) slow.push({ flushMs, results: await measure(url, [16], how) });
    }
    const at16 = fast.at(-1)?.ratio ?? Number.NaN;
    return {
      tables: [
        table('Transactions per second on one hot stream', fast),
        ...slow.map(({ flushMs, results }) =>
          table(`The same when a flush takes ${flushMs} ms more (commit_delay)`, results),
        ),
      ],
      targets: [
        { what: 'publish against a plain insert, 16 connections', atLeast: TARGET, measured: at16 },
        ...slow.map(({ flushMs, results }) => ({
          what: `the same, flush ${flushMs} ms`,
          atLeast: TARGET,
          measured: results[0]?.ratio ?? Number.NaN,
        })),
      ],
      notes: [await checkLog(url)],
    };
  });
}

/** Every commit from now on waits longer, together with all others. False: we are not allowed to. @param {string} url @param {number} ms */
const slowFlush = (url, ms) =>
  withClient(url, async (client) => {
    const { rows } = await client.query(
      `select current_database() as name, current_setting('is_superuser') = 'on' as allowed`,
    );
    if (rows[0].allowed !== true) return false;
    await client.query(`alter database ${rows[0].name} set commit_delay = ${ms * 1000}`);
    await client.query(`alter database ${rows[0].name} set commit_siblings = 0`);
    return true;
  });

/** @param {string} url @param {readonly number[]} connections @param {How} how */
async function measure(url, connections, how) {
  const relay = await startRole('relay', url);
  const handRelay = await startRole('hand-relay', url);
  const publishers = await startRole('publishers', url, Math.max(...connections));
  try {
    for (const variant of ['plain', 'unprepared', 'byHand', 'publish'])
      await publishers.call('run', variant, 16, 300); // warm
    const results = [];
    for (const count of connections)
      results.push(await measureAt(count, { relay, handRelay, publishers }, how));
    return results;
  } finally {
    await publishers.stop();
    await handRelay.stop();
    await relay.stop();
  }
}

/**
 * @param {number} connections
 * @param {Record<'relay' | 'handRelay' | 'publishers', import('./support/role.mjs').Role>} roles
 * @param {How} how
 */
async function measureAt(connections, { relay, handRelay, publishers }, { rounds, ms }) {
  await publishers.call('drained');
  await relay.call('takeCounts');
  /** @type {number[]} */
  const lags = [];
  const rate = (/** @type {string} */ variant) => async () =>
    (await publishers.call('run', variant, connections, ms)).perSecond;
  const {
    plain = [],
    unprepared = [],
    publish = [],
    byHand = [],
  } = await inTurn(rounds, {
    unprepared: rate('unprepared'),
    plain: rate('plain'),
    publish: async () => {
      const perSecond = await rate('publish')();
      lags.push(await publishers.call('drained'));
      return perSecond;
    },
    byHand: async () => {
      await handRelay.call('start');
      const perSecond = await rate('byHand')();
      await handRelay.call('stop');
      return perSecond;
    },
  });
  const relayed = await relay.call('takeCounts');
  return {
    connections,
    ...compare(publish, plain),
    unprepared: compare(publish, unprepared),
    byHand: compare(byHand, plain),
    lagMs: median(lags),
    perPass: relayed.moved / relayed.passes,
    notificationsPer1000: (relayed.notifications * 1000) / relayed.moved,
  };
}

/** @param {string} title @param {Awaited<ReturnType<typeof measure>>} results */
const table = (title, results) => ({
  title,
  columns: [
    'connections',
    'plain insert /s',
    'publish /s',
    'ratio',
    'rounds',
    'insert not prepared /s',
    'ratio',
    'an outbox by hand /s',
    'by the plain insert',
    'lag at the end, ms',
    'events per pass',
    'notifications per 1 000',
  ],
  rows: results.map((result) => [
    String(result.connections),
    round(result.raw),
    round(result.ours),
    round(result.ratio),
    `${round(result.worst)}–${round(result.best)}`,
    round(result.unprepared.raw),
    round(result.unprepared.ratio),
    round(result.byHand.ours),
    round(result.byHand.ratio),
    round(result.lagMs),
    round(result.perPass),
    round(result.notificationsPer1000),
  ]),
});

/** A rate of events that got lost is no rate: every order's event must be in the log, once. @param {string} url */
async function checkLog(url) {
  const [row] = await withClient(url, async (client) => {
    const { rows } = await client.query(
      `select (select count(*) from orders)::integer - (select count(*) from plain_events)::integer
           - (select count(*) from events_by_hand)::integer as published,
         count(*)::integer as events, max("offset")::integer as head, count(distinct data ->> 'at')::integer as different
       from sluice.events`,
    );
    return rows;
  });
  const { published, events, head, different } = row;
  if (events !== published || head !== published || different !== published) {
    throw new Error(`of ${published} events published the log has ${JSON.stringify(row)}`);
  }
  return `All ${published} published events are in the log, once, at offsets 1 to ${published}.`;
}
