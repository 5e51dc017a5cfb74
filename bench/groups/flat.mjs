// Whether a group consumes as fast as ever with a million retries waiting, with 200 000 events in others' hands and with
// a backlog of five million: the rate of the same fresh events, beside a group that has nothing behind it. Each state is
// in a database of its own.
import { round } from '../support/report.mjs';
import { startRole } from '../support/role.mjs';
import { inTurn } from '../support/rounds.mjs';
import { withClient } from '../support/server.mjs';
import { compare } from '../support/statistics.mjs';
import { prepareBacklog, prepareInFlight, prepareInFlightSingly, prepareRetries } from './states.mjs';
import { append, groupOf } from './systems/sluice.mjs';
import { connect } from 'sluice';

const TARGET = 0.8;
const STREAM = 'flat';
const BATCH = 100;
const LIMIT_MS = 60_000;

/** @typedef {{ title: string, prepare: import('./states.mjs').Prepare, count: number, inside?: boolean }} State */

/** @param {boolean} quick @returns {Record<string, State>} */
const listStates = (quick) => ({
  plain: { title: 'nothing', prepare: prepareBacklog, count: 0 },
  retries: { title: 'retries waiting', prepare: prepareRetries, count: quick ? 20_000 : 1_000_000 },
  inFlight: { title: 'events in flight', prepare: prepareInFlight, count: quick ? 5000 : 200_000 },
  inFlightSingly: {
    title: 'events in flight, in as many leases',
    prepare: prepareInFlightSingly,
    count: quick ? 5000 : 200_000,
  },
  backlog: {
    title: 'events waiting',
    prepare: prepareBacklog,
    count: quick ? 100_000 : 5_000_000,
    inside: true,
  },
});

/** @param {import('../support/server.mjs').Server} server @param {boolean} quick @returns {Promise<import('../support/report.mjs').Report>} */
export async function measureFlat(server, quick) {
  const states = listStates(quick);
  /** @type {Record<string, string>} */
  const urls = {};
  /** @type {import('../support/report.mjs').Report | undefined} */
  let report;
  const open = async (/** @type {string[]} */ [name, ...others]) => {
    if (name === undefined) {
      report = await measureStates(states, urls, quick);
      return;
    }
    await server.withDatabase(async (url) => {
      urls[name] = url;
      await states[name]?.prepare(url, STREAM, states[name].count);
      await withClient(url, (client) => client.query('vacuum (analyze)'));
      await open(others);
    });
  };
  await open(Object.keys(states));
  return report ?? { tables: [] };
}

/** @param {Record<string, State>} states @param {Record<string, string>} urls @param {boolean} quick */
async function measureStates(states, urls, quick) {
  /** @type {Record<string, import('../support/role.mjs').Role>} */
  const roles = {};
  const rows = [];
  const targets = [];
  try {
    for (const [name, url] of Object.entries(urls)) {
      roles[name] = await startRole('group-consumers', url, 'sluice');
    }
    const count = quick ? 5000 : 100_000;
    for (const consumers of [1, 8]) {
      const rates = await measureRound(states, { urls, roles, consumers, count, rounds: quick ? 2 : 5 });
      for (const [name, state] of Object.entries(states)) {
        const { ours, ratio, worst, best } = compare(rates[name] ?? [], rates['plain'] ?? []);
        const title = `${state.count === 0 ? '' : `${state.count} `}${state.title}, consumers: ${consumers}`;
        rows.push([title, round(ours), round(ratio), `${round(worst)}–${round(best)}`]);
        if (name !== 'plain') targets.push({ what: title, atLeast: TARGET, measured: ratio });
      }
    }
    const kept = await describeStates(states, urls);
    return {
      tables: [
        {
          title: `Events per second by ${BATCH} with so much behind the group`,
          columns: ['', '/s', 'of the plain rate', 'rounds'],
          rows,
        },
      ],
      targets,
      notes: [`At the end the groups had ${kept.join('; ')}.`],
    };
  } finally {
    for (const role of Object.values(roles)) await role.stop();
  }
}

/**
 * Fresh events are appended before each measurement, except to the group that has enough of them.
 *
 * @param {Record<string, State>} states
 * @param {{ urls: Record<string, string>, roles: Record<string, import('../support/role.mjs').Role>, consumers: number, count: number, rounds: number }} with_
 * @returns {Promise<Record<string, number[]>>}
 */
function measureRound(states, { urls, roles, consumers, count, rounds }) {
  const measurements = Object.entries(states).map(([name, { inside, count: numbers }]) => [
    name,
    async () => {
      if (!inside) await append(urls[name] ?? '', STREAM, count);
      const how = { consumers, batch: BATCH, where: STREAM };
      const limits = { count, limitMs: LIMIT_MS, ...(inside && { numbers }) };
      const drained = await roles[name]?.call('drain', how, limits);
      return drained.perSecond;
    },
  ]);
  return inTurn(rounds, Object.fromEntries(measurements));
}

/** @param {Record<string, State>} states @param {Record<string, string>} urls */
async function describeStates(states, urls) {
  const described = [];
  for (const [name, { title }] of Object.entries(states)) {
    const sluice = await connect({ connectionString: urls[name] ?? '', relay: false });
    const { lag, inFlight, retries } = await groupOf(sluice, STREAM).stats();
    described.push(`${title}: lag ${lag}, in flight ${inFlight}, retries ${retries}`);
    await sluice.close();
  }
  return described;
}
