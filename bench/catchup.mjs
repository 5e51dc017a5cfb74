// Replaying a long stream through subscribe, from its start to its head, against a raw server-side cursor over the same
// rows in the same order. What does it cost to check tag and density on every page, to keep to bounded pages instead
// of one long snapshot, and to hand out parsed events one by one?
import { fillStream } from './support/fill.mjs';
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { inTurn } from './support/rounds.mjs';
import { compare } from './support/statistics.mjs';

const TARGET = 0.5;
const WARM_EVENTS = 10_000;

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const events = quick ? 100_000 : 1_000_000;
  return server.withDatabase(async (url) => {
    await fillStream(url, 'long', events);
    const reader = await startRole('catchup-reader', url);
    try {
      await reader.call('subscribe', WARM_EVENTS); // warm
      await reader.call('raw', WARM_EVENTS);
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
