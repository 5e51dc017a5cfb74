// A process that reads a stream from its start: by subscription, or with a cursor of PostgreSQL's own. Both look at every
// event's parsed data and check that none is missing.
import { Client } from 'pg';
import { connect } from 'sluice';
import { serve } from '../support/role.mjs';

const PAGE = 1000;

/** @type {import('sluice').Sluice} */
let sluice;
/** @type {Client} */
let client;

/** @param {number} count @param {(see: (offset: bigint, data: unknown) => boolean) => Promise<void>} read */
async function rate(count, read) {
  const started = performance.now();
  let seen = 0;
  let bytes = 0;
  await read((offset, data) => {
    seen += 1;
    if (offset !== BigInt(seen)) throw new Error(`offset ${offset} came as number ${seen}`);
    bytes += /** @type {{ note: string }} */ (data).note.length;
    return seen < count;
  });
  if (seen !== count || bytes === 0) throw new Error(`${seen} of ${count} events came`);
  return (count * 1000) / (performance.now() - started);
}

serve({
  /** @param {string} url */
  async open(url) {
    sluice = await connect({ connectionString: url, relay: false });
    client = new Client({ connectionString: url });
    await client.connect();
  },
  subscribe: (/** @type {number} */ count) =>
    rate(count, async (see) => {
      for await (const { offset, data } of sluice.stream('long').subscribe()) if (!see(offset, data)) break;
    }),
  raw: (/** @type {number} */ count) =>
    rate(count, async (see) => {
      await client.query('begin');
      await client.query(
        `declare rows no scroll cursor for
         select e."offset", e.at, e.tag, e.type, e.key, e.headers, e.data
         from sluice.events e join sluice.streams s on s.id = e.stream_id
         where s.name = 'long' order by e."offset"`,
      );
      for (let more = true; more;) {
        const { rows } = await client.query({ name: 'page', text: `fetch ${PAGE} from rows` });
        more = rows.length > 0;
        for (const { offset, data } of rows) {
          more = see(BigInt(offset), data);
          if (!more) break;
        }
      }
      await client.query('commit');
    }),
  async close() {
    await client.end();
    await sluice.close();
  },
});
