// Owns how a stream gets a past: orders appended in bulk, then vacuumed, as one that has been written for a while.
import { connect } from 'sluice';
import { payload } from './payload.mjs';
import { withClient } from './server.mjs';

const BATCH = 10_000;

/** @param {string} url @param {string} name @param {number} events */
export async function fillStream(url, name, events) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    for (let written = 0; written < events; written += BATCH) {
      const data = Array.from({ length: Math.min(BATCH, events - written) }, (_, n) =>
        payload(0, written + n),
      );
      await sluice.stream(name).appendMany(data.map((each) => ({ data: each, type: 'order.paid' })));
    }
  } finally {
    await sluice.close();
  }
  await withClient(url, (client) => client.query('vacuum analyze sluice.events'));
}
