// From the call of publish or append to the subscriber's callback in another process, with the relay in a third; beside
// what PostgreSQL itself takes on the same server for the two things that are in it: a commit (one row, flushed) and a
// NOTIFY from one process to another. Idle: one at a time, everything at rest in between. Steady: 1 000 a second.
import { inTurn } from './support/rounds.mjs';
import { round } from './support/report.mjs';
import { startRole } from './support/role.mjs';
import { withClient } from './support/server.mjs';
import { percentile } from './support/statistics.mjs';
import { plainEvents } from './support/tables.mjs';

const PER_SECOND = 1000;
/** Longer than the relay stays awake after an event. */
const GAP_MS = 50;

/** @typedef {import('./support/role.mjs').Role} Role */

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  return server.withDatabase(async (url) => {
    await withClient(url, (client) => client.query(plainEvents));
    const relay = await startRole('relay', url);
    const reader = await startRole('latency-reader', url);
    const writer = await startRole('latency-writer', url);
    try {
      const idle = measure(reader, (what) => writer.call('idle', what, quick ? 25 : 60, GAP_MS));
      const steady = measure(reader, (what) => writer.call('steady', what, PER_SECOND, quick ? 700 : 2000));
      await idle(1); // statements planned, connections open
      return {
        tables: [
          toTable('Idle: one at a time, milliseconds', await idle(quick ? 1 : 4)),
          toTable(`Steady: ${PER_SECOND} a second, milliseconds`, await steady(quick ? 1 : 3)),
        ],
        notes: [
          '"caller": until the call returns. "callback": from the call to the callback in another process.',
          'commit and notify are bare: one inserted row, and pg_notify to a LISTEN in another process.',
        ],
      };
    } finally {
      await writer.stop();
      await reader.stop();
      await relay.stop();
    }
  });
}

const WHAT = ['commit', 'notify', 'publish', 'append'];

/**
 * All of them in turn, round by round; the times of all rounds together.
 *
 * @param {Role} reader
 * @param {(what: string) => Promise<number[]>} write
 */
const measure = (reader, write) => async (/** @type {number} */ rounds) => {
  const measurements = WHAT.map((what) => [
    what,
    async () => {
      const caller = await write(what);
      return { caller, callback: what === 'commit' ? [] : await reader.call('take', caller.length) };
    },
  ]);
  /** @type {Record<string, { caller: number[], callback: number[] }[]>} */
  const results = await inTurn(rounds, Object.fromEntries(measurements));
  return WHAT.map((what) => ({
    what,
    caller: (results[what] ?? []).flatMap(({ caller }) => caller),
    callback: (results[what] ?? []).flatMap(({ callback }) => callback),
  }));
};

/** @param {string} title @param {{ what: string, caller: number[], callback: number[] }[]} results */
const toTable = (title, results) => ({
  title,
  columns: ['', 'caller p50', 'caller p99', 'callback p50', 'callback p99', 'events'],
  rows: results.map(({ what, caller, callback }) => [
    what,
    round(percentile(caller, 0.5)),
    round(percentile(caller, 0.99)),
    round(percentile(callback, 0.5)),
    round(percentile(callback, 0.99)),
    caller.length,
  ]),
});
