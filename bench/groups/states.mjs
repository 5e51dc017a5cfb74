// Owns what a group can have behind it while it consumes: each function makes one such state, in a stream whose group has
// consumed nothing else. What the public API makes first is then copied in the database as often as it takes: the rows
// are those that it would have left, in a fraction of the time.
import { connect } from 'sluice';
import { withClient } from '../support/server.mjs';
import { append, groupOf } from './systems/sluice.mjs';

/** As large as the leases of the consumers that are measured. */
const CLAIM = 100;
/** Events that are appended; more of them are copies. */
const APPENDED = 5000;
const AN_HOUR_MS = 3_600_000;

/** @typedef {(url: string, stream: string, count: number) => Promise<void>} Prepare */

/** So many events failed, and are to be tried again tomorrow. @type {Prepare} */
export async function prepareRetries(url, stream, count) {
  await prepareBacklog(url, stream, count);
  const retryAt = new Date(Date.now() + 24 * AN_HOUR_MS);
  await claim(url, stream, { count: CLAIM, max: CLAIM }, (lease) =>
    lease.ack({ failed: lease.events.map(({ offset }) => ({ offset, error: new Error('later'), retryAt })) }),
  );
  await withClient(url, async (client) => {
    await client.query(
      `insert into sluice.pieces (group_id, events, due_at, attempts, strikes, suspect, error)
       select p.group_id, int8multirange(int8range(n, n + 1)), p.due_at, p.attempts, p.strikes, p.suspect, p.error
       from (select * from sluice.pieces limit 1) p, generate_series($1::bigint + 1, $2) n`,
      [CLAIM, count],
    );
    await client.query('update sluice.group_states set "offset" = $1', [count]);
  });
}

/** So many events are in the hands of somebody who takes an hour. @type {Prepare} */
export async function prepareInFlight(url, stream, count) {
  await prepareBacklog(url, stream, count);
  await claim(url, stream, { count, max: CLAIM }, async () => {});
}

/** The same, each in a lease of its own, as slow handlers take them. @type {Prepare} */
export async function prepareInFlightSingly(url, stream, count) {
  await prepareBacklog(url, stream, count);
  await claim(url, stream, { count: CLAIM, max: 1 }, async () => {});
  await withClient(url, async (client) => {
    await client.query(
      `insert into sluice.leases (token, n, group_id, member, open, attempts, strikes, suspect, claimed_at, expires_at)
       select gen_random_uuid(), l.n, l.group_id, gen_random_uuid(), int8multirange(int8range(m, m + 1)), l.attempts,
         l.strikes, l.suspect, l.claimed_at + m * interval '1 ms', l.expires_at + m * interval '1 ms'
       from (select * from sluice.leases limit 1) l, generate_series($1::bigint + 1, $2) m`,
      [CLAIM, count],
    );
    await client.query('update sluice.group_states set "offset" = $1', [count]);
  });
}

/** So many events wait. @type {Prepare} */
export async function prepareBacklog(url, stream, count) {
  await append(url, stream, Math.min(count, APPENDED));
  if (count <= APPENDED) return;
  await withClient(url, (client) =>
    client.query(
      `insert into sluice.events (stream_id, "offset", at, tag, size, type, data)
       select e.stream_id, n, e.at, floor(random() * 4294967296 - 2147483648), octet_length(d.data), e.type, d.data::json
       from generate_series($2::bigint + 1, $1) n
       join sluice.events e on e."offset" = (n - 1) % $2 + 1
       cross join lateral (
         select '{"id":"0-' || n - 1 || '"' || substr(e.data::text, strpos(e.data::text, ',"customer"')) as data
       ) d`,
      [count, APPENDED],
    ),
  );
}

/**
 * @param {string} url @param {string} stream @param {{ count: number, max: number }} amount `max`: of a lease
 * @param {(lease: import('./systems/sluice.mjs').Lease) => Promise<void>} use
 */
async function claim(url, stream, { count, max }, use) {
  const sluice = await connect({ connectionString: url, relay: false });
  try {
    const group = groupOf(sluice, stream);
    for (let claimed = 0; claimed < count;) {
      const lease = await group.claim({ max: Math.min(max, count - claimed), leaseMs: AN_HOUR_MS });
      if (lease === null) throw new Error(`${claimed} of ${count} events could be claimed`);
      claimed += lease.events.length;
      await use(lease);
    }
  } finally {
    await sluice.close();
  }
}
