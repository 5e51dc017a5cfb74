// Replaying a long stream through subscribe, from its start to its head, against a raw server-side cursor over the same
// rows in the same order. What does it cost to check tag and density on every page, to keep to bounded pages instead
// of one long snapshot, and to hand out parsed events one by one?
import { connect } from 'sluice';
import { payload } from './support/payload.mjs';
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { withClient } from './support/server.mjs';
import { compare } from './support/statistics.mjs';

const TARGET = 0.5;
const BATCH = 10_000;

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const events = quick ? 100_000 : 1_000_000;
  return server.withDatabase(async (url) => {
    await fill(url, events);
    const reader = await startRole('catchup-reader', url);
    try {
      await reader.call('subscribe', BATCH); // warm
      await reader.call('raw', BATCH);
      const { raw = [], subscribe = [] } = await inTurn(quick ? 2 : 3, {
        raw: () => reader.call('raw', events),
        subscribe: () => reader.call('subscribe', events),
      });
      const { ours, raw: limit, ratio, worst, best } = compare(subscribe, raw);
      return {
        tables: [
          {
            title: `${events} events of one stream, from its start to its head`,
            columns: ['', 'raw cursor /s', 'subscribe /s', 'ratio', 'rounds'],
            rows: [
              ['one process', round(limit), round(ours), round(ratio), `${round(worst)}–${round(best)}`],
            ],
          },
        ],
        targets: [{ what: 'subscribe against a raw cursor', atLeast: TARGET, measured: ratio }],
      };
    } finally {
      await reader.stop();
    }
  });
}

/** @param {string} url @param {number} events */
async function fill(url, events) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    for (let written = 0; written < events; written += BATCH) {
      await sluice
        .stream('long')
        .appendMany(
          Array.from({ length: BATCH }, (_, n) => ({ data: payload(0, written + n), type: 'order.paid' })),
        );
    }
  } finally {
    await sluice.close();
  }
  await withClient(url, (client) => client.query('vacuum analyze sluice.events'));
}
