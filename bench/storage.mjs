// The measurements behind docs/decisions/0002-storage.md: candidates for how published events wait in the outbox, and
// for how the events of a log are stored. The chosen ones are measured with Sluice's own SQL.
import { measureEvents } from './storage/events.mjs';
import { measureOutboxes } from './storage/outbox.mjs';

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  return server.withDatabase(async (url) => ({
    tables: [...(await measureOutboxes(url, quick)), ...(await measureEvents(url, quick))],
  }));
}
