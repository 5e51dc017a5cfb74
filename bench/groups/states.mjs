// Owns what a group can have behind it while it consumes: each function makes one such state, with the public API alone,
// in a stream whose group has consumed nothing else.
import { connect } from 'sluice';
import { append, groupOf } from './systems/sluice.mjs';

/** A lease costs the same whatever it holds, so they are as small as those of the consumers that are measured. */
const CLAIM = 100;
const AN_HOUR_MS = 3_600_000;

/** @typedef {(url: string, stream: string, count: number) => Promise<void>} Prepare */

/** So many events failed, and are to be tried again tomorrow. @type {Prepare} */
export const prepareRetries = (url, stream, count) => {
  const retryAt = new Date(Date.now() + 24 * AN_HOUR_MS);
  return claimAll(url, stream, count, (lease) =>
    lease.ack({ failed: lease.events.map(({ offset }) => ({ offset, error: new Error('later'), retryAt })) }),
  );
};

/** So many events are in the hands of somebody who takes an hour. @type {Prepare} */
export const prepareInFlight = (url, stream, count) => claimAll(url, stream, count, async () => {});

/** So many events wait. @type {Prepare} */
export const prepareBacklog = append;

/** @param {string} url @param {string} stream @param {number} count @param {(lease: import('./systems/sluice.mjs').Lease) => Promise<void>} use */
async function claimAll(url, stream, count, use) {
  await append(url, stream, count);
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    const group = groupOf(sluice, stream);
    for (let claimed = 0; claimed < count;) {
      const lease = await group.claim({ max: Math.min(CLAIM, count - claimed), leaseMs: AN_HOUR_MS });
      if (lease === null) throw new Error(`${claimed} of ${count} events could be claimed`);
      claimed += lease.events.length;
      await use(lease);
    }
  } finally {
    await sluice.close();
  }
}
