// Consumer groups beside two libraries, the SQL of a third, what one would write by hand, and the bare limits of the same
// server: how much they consume, how late they are, whether a group's rate depends on what it has behind it, and what
// it does when all of that falls due at once.
import { measureFlat } from './groups/flat.mjs';
import { measureLatency } from './groups/latency.mjs';
import { measureRates } from './groups/rates.mjs';
import { measureStorms } from './groups/storms.mjs';
import { importSystem, liveSystems, systems } from './groups/system.mjs';
import { hasGroups } from './groups/systems/sluice.mjs';

/** @typedef {import('./support/report.mjs').Report} Report */

/** `SLUICE_BENCH_GROUPS`: these parts alone, separated by commas. */
const PARTS = (process.env['SLUICE_BENCH_GROUPS'] ?? 'rates,latency,flat,storms').split(',');

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  /** @type {Report[]} */
  const reports = [];
  let ours = false;
  await server.withDatabase(async (url) => {
    ours = await hasGroups(url);
    const taking = (/** @type {typeof systems} */ all) =>
      Object.keys(all).filter((name) => ours || !all[name]?.isOurs);
    for (const name of taking({ ...systems, ...liveSystems })) await (await importSystem(name)).install(url);
    if (PARTS.includes('rates')) reports.push(await measureRates(url, taking(systems), quick));
    if (PARTS.includes('latency')) reports.push(await measureLatency(url, taking(liveSystems), quick));
  });
  if (ours && PARTS.includes('flat')) reports.push(await measureFlat(server, quick));
  if (ours && PARTS.includes('storms')) reports.push(await measureStorms(server, quick));
  return {
    tables: reports.flatMap(({ tables }) => tables),
    targets: reports.flatMap(({ targets = [] }) => targets),
    notes: [
      ...reports.flatMap(({ notes = [] }) => notes),
      ...(ours ? [] : ['This version of Sluice has no groups: the others alone were measured.']),
    ],
  };
}
