// The bus beside a bare `pg` client that listens: how much it takes, how late it is, and how soon it listens again after
// its connection was lost. It is heard in loops (`subscribe`) and by handlers (`listen`). The notifier and each receiver
// are processes of their own; only one receiver listens at a time.
import { measureLatency } from './bus/latency.mjs';
import { measureRecovery } from './bus/recovery.mjs';
import { measureThroughput } from './bus/throughput.mjs';
import { startRole } from './support/role.mjs';

/** @typedef {import('./support/role.mjs').Role} Role */
/** @typedef {'bare' | 'loops' | 'handlers'} Receiver */
/** @typedef {Readonly<Record<'notifier' | Receiver, Role>>} Roles */
/** @typedef {{ channels: number, subscriptions: number }} Listening so many channels, so many subscriptions to each */

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  return server.withDatabase(async (url) => {
    const roles = {
      notifier: await startRole('bus-notifier', url),
      bare: await startRole('bus-receiver', url),
      loops: await startRole('bus-receiver', url),
      handlers: await startRole('bus-receiver', url),
    };
    try {
      const reports = [
        await measureThroughput(roles, quick),
        await measureLatency(roles, quick),
        await measureRecovery(url, quick),
      ];
      return {
        tables: reports.flatMap(({ tables }) => tables),
        targets: reports.flatMap(({ targets = [] }) => targets),
        notes: reports.flatMap(({ notes = [] }) => notes),
      };
    } finally {
      for (const role of Object.values(roles)) await role.stop();
    }
  });
}
