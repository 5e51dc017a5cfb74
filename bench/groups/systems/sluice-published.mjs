// Sluice's groups behind its outbox: what a transaction of the user's publishes, moved by the relay, which the producer's
// process runs.
import { connect } from 'sluice';

export { install, left, load, openConsumers } from './sluice.mjs';

/** @param {string} url @param {string} [where] */
export async function openProducer(url, where = '') {
  const sluice = await connect({ connectionString: url });
  const stream = sluice.stream(where);
  return {
    send: (/** @type {object} */ data) => stream.publish(data, { type: 'order.paid' }),
    close: () => sluice.close(),
  };
}
