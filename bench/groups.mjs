// Consumer groups beside two libraries, the SQL of a third, what one would write by hand, and the bare limits of the same
// server: how much they consume, how late they are, and whether a group's rate depends on what it has behind it.
import { measureFlat } from './groups/flat.mjs';
import { measureLatency } from './groups/latency.mjs';
import { measureRates } from './groups/rates.mjs';
import { importSystem, liveSystems, systems } from './groups/system.mjs';
import { hasGroups } from './groups/systems/sluice.mjs';

/** @typedef {import('./support/report.mjs').Report} Report */

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
    reports.push(await measureRates(url, taking(systems), quick));
    reports.push(await measureLatency(url, taking(liveSystems), quick));
  });
  if (ours) reports.push(await measureFlat(server, quick));
  return {
    tables: reports.flatMap(({ tables }) => tables),
    targets: reports.flatMap(({ targets = [] }) => targets),
    notes: [
      ...reports.flatMap(({ notes = [] }) => notes),
      ...(ours ? [] : ['This version of Sluice has no groups: the others alone were measured.']),
    ],
  };
}
