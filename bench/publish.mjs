// Publishing in a transaction of the user's, on one hot stream, against the same transaction with a plain insert of the
// same row: what does it cost to get dense, commit-ordered offsets? The relay runs in its own process all the time, so
// that its work is part of the price. The user's transaction: begin, insert an order, publish (or insert), commit.
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { withClient } from './support/server.mjs';
import { compare, median } from './support/statistics.mjs';
import { orders, plainEvents } from './support/tables.mjs';

const TARGET = 0.9;
const CONNECTIONS = [1, 4, 16];

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const rounds = quick ? 2 : 5;
  const ms = quick ? 1000 : 2000;
  return server.withDatabase(async (url) => {
    await withClient(url, (client) => client.query(`${orders}; ${plainEvents}`));
    const relay = await startRole('relay', url);
    const publishers = await startRole('publishers', url, Math.max(...CONNECTIONS));
    try {
      const rows = [];
      let ratioAt16 = Number.NaN;
      await publishers.call('run', 'plain', 16, 500);
      await publishers.call('run', 'publish', 16, 500); // statements planned, files grown
      for (const connections of CONNECTIONS) {
        await publishers.call('drained');
        await relay.call('takeCounts');
        /** @type {number[]} */
        const lags = [];
        const { plain = [], publish = [] } = await inTurn(rounds, {
          plain: async () => (await publishers.call('run', 'plain', connections, ms)).perSecond,
          publish: async () => {
            const { perSecond } = await publishers.call('run', 'publish', connections, ms);
            lags.push(await publishers.call('drained'));
            return perSecond;
          },
        });
        const { ours, raw, ratio, worst, best } = compare(publish, plain);
        const { passes, moved, sleeps, rotations } = await relay.call('takeCounts');
        if (connections === 16) ratioAt16 = ratio;
        rows.push([
          String(connections),
          round(raw),
          round(ours),
          round(ratio),
          `${round(worst)}–${round(best)}`,
          round(median(lags)),
          round(moved / passes),
          sleeps,
          rotations,
        ]);
      }
      return {
        tables: [
          {
            title: 'Transactions per second on one hot stream',
            columns: [
              'connections',
              'plain insert /s',
              'publish /s',
              'ratio',
              'rounds',
              'lag at the end, ms',
              'events per pass',
              'sleeps of the relay',
              'rotations',
            ],
            rows,
          },
        ],
        targets: [
          { what: 'publish against a plain insert, 16 connections', atLeast: TARGET, measured: ratioAt16 },
        ],
        notes: [await checkLog(url, await publishers.call('written'))],
      };
    } finally {
      await publishers.stop();
      await relay.stop();
    }
  });
}

/** A rate of events that got lost is no rate: everything must be in the log, once, without a gap. @param {string} url @param {{ publish: number }} written */
async function checkLog(url, { publish }) {
  const [row] = await withClient(url, async (client) => {
    const { rows } = await client.query(
      `select count(*)::integer as events, max("offset")::integer as head, count(distinct data ->> 'id')::integer as ids
       from sluice.events`,
    );
    return rows;
  });
  if (row.events !== publish || row.head !== publish || row.ids !== publish) {
    throw new Error(`of ${publish} events published the log has ${JSON.stringify(row)}`);
  }
  return `All ${publish} published events are in the log, once, at offsets 1 to ${publish}.`;
}
