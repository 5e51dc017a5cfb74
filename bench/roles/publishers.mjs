// A process of concurrent users' transactions, each of which writes to a table of the user's and then either publishes
// an event or inserts the same row plainly.
import { Client } from 'pg';
import { connect } from 'sluice';
import { payload } from '../support/payload.mjs';
import { serve } from '../support/role.mjs';
import { insertByHand, insertPlainEvent, plainEvent } from '../support/tables.mjs';

/** @type {import('sluice').Sluice} */
let sluice;
/** @type {import('sluice').Stream} */
let stream;
/** @type {Client[]} */
let clients = [];
let headBefore = 0n;
const written = { publish: 0, plain: 0, unprepared: 0, byHand: 0 };

const writes = {
  /** @param {Client} tx @param {object} data */
  publish: (tx, data) => stream.publish(data, { tx, type: 'order.paid' }),
  /** Prepared once per connection, as publish is on a pg client. @param {Client} tx @param {object} data */
  plain: (tx, data) => tx.query({ name: 'plain', text: insertPlainEvent, values: plainEvent(data) }),
  /** Parsed and planned each time, as most code has it. @param {Client} tx @param {object} data */
  unprepared: (tx, data) => tx.query(insertPlainEvent, plainEvent(data)),
  /** @param {Client} tx @param {object} data */
  byHand: (tx, data) => tx.query({ name: 'byHand', text: insertByHand, values: plainEvent(data) }),
};

/** @param {Client} client @param {keyof typeof writes} variant */
async function transaction(client, variant) {
  written[variant] += 1;
  const data = payload(process.pid, written[variant]);
  await client.query('begin');
  await client.query('insert into orders (customer, total) values ($1, $2)', [data.customer, data.total]);
  await writes[variant](client, data);
  await client.query('commit');
}

async function drained() {
  const started = performance.now();
  while (((await stream.info())?.head ?? 0n) < headBefore + BigInt(written.publish)) {
    if (performance.now() - started > 60_000) throw new Error('the relay has not moved everything in 60 s');
  }
  return performance.now() - started;
}

serve({
  /** @param {string} url @param {number} connections */
  async open(url, connections) {
    sluice = await connect({ connectionString: url, relay: false });
    stream = sluice.stream('orders');
    headBefore = (await stream.info())?.head ?? 0n;
    clients = Array.from({ length: connections }, () => new Client({ connectionString: url }));
    await Promise.all(clients.map((client) => client.connect()));
  },
  /** Runs transactions on so many connections for so long; how many were committed, and how fast. */
  async run(
    /** @type {keyof typeof writes} */ variant,
    /** @type {number} */ connections,
    /** @type {number} */ ms,
  ) {
    const before = written[variant];
    const started = performance.now();
    await Promise.all(
      clients.slice(0, connections).map(async (client) => {
        do await transaction(client, variant);
        while (performance.now() - started < ms);
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    return { commits: written[variant] - before, perSecond: (written[variant] - before) / seconds };
  },
  /** Publishes so many events, in calls of so many, and waits until they are in the log; events per second. */
  async flood(/** @type {number} */ count, /** @type {number} */ perCall) {
    const started = performance.now();
    let left = count;
    await Promise.all(
      clients.map(async () => {
        while (left > 0) {
          const size = Math.min(left, perCall);
          left -= size;
          written.publish += size;
          await stream.publishMany(
            Array.from({ length: size }, (_, n) => ({ data: payload(process.pid, n) })),
          );
        }
      }),
    );
    await drained();
    return (count * 1000) / (performance.now() - started);
  },
  /** Until everything published is in the log; the milliseconds that took. */
  drained,
  async close() {
    await Promise.all(clients.map((client) => client.end()));
    await sluice.close();
  },
});
