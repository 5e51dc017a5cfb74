// How the events of a log are stored: one table or partitions, and the payload as json, jsonb or text. Written in
// statements of 1 000 rows, to one stream and to 1 000 streams, and read in pages of 1 000 by a cursor.
import { payload } from '../support/payload.mjs';
import { round } from '../support/report.mjs';
import { inTurn } from '../support/rounds.mjs';
import { withClient } from '../support/server.mjs';
import { median } from '../support/statistics.mjs';

const ROWS = 1000;
const STREAMS = 1000;
const HOT = STREAMS + 1;

/** @typedef {{ name: string, table: string, type: string, partitions: number }} Candidate */

/** @type {readonly Candidate[]} */
const candidates = [
  { name: 'one table, json', table: 'events_plain', type: 'json', partitions: 0 },
  { name: '8 hash partitions, json', table: 'events_hash', type: 'json', partitions: 8 },
  { name: 'one table, jsonb', table: 'events_jsonb', type: 'jsonb', partitions: 0 },
  { name: 'one table, text', table: 'events_text', type: 'text', partitions: 0 },
];

/** @param {string} url @param {boolean} quick @returns {Promise<import('../support/report.mjs').Table[]>} */
export async function measureEvents(url, quick) {
  const { rounds, ms } = quick ? { rounds: 1, ms: 250 } : { rounds: 3, ms: 500 };
  return withClient(url, async (client) => {
    for (const candidate of candidates) await client.query(definition(candidate));
    const heads = Object.fromEntries(candidates.map(({ table }) => [table, { hot: 0, cold: 0 }]));
    const each = (/** @type {(candidate: Candidate) => Promise<number>} */ work) =>
      inTurn(
        rounds,
        Object.fromEntries(candidates.map((candidate) => [candidate.name, () => work(candidate)])),
      );
    const hot = await each((candidate) => perSecond(ms, () => write(client, candidate, heads, 'hot')));
    const cold = await each((candidate) => perSecond(ms, () => write(client, candidate, heads, 'cold')));
    for (const { table } of candidates) await client.query(`vacuum analyze ${table}`);
    const read = await each((candidate) => perSecond(ms, () => readPage(client, candidate, heads, 'hot')));
    const coldRead = await each((candidate) =>
      perSecond(ms, () => readPage(client, candidate, heads, 'cold')),
    );
    const rows = [];
    for (const candidate of candidates) {
      const { name } = candidate;
      const rates = [hot, cold, read, coldRead].map((results) => round(median(results[name] ?? [])));
      rows.push([name, ...rates, round(await bytesPerEvent(client, candidate))]);
    }
    return [
      {
        title: 'The events: rows per second, written and read by 1 000; bytes per event of 200 bytes',
        columns: [
          '',
          'written, 1 stream',
          `written, ${STREAMS} streams`,
          'read, 1 stream',
          `read, ${STREAMS} streams`,
          'bytes',
        ],
        rows,
      },
    ];
  });
}

/** @param {Candidate} candidate */
function definition({ table, type, partitions }) {
  const columns = `
    stream_id bigint not null, "offset" bigint not null check ("offset" > 0), at timestamptz not null,
    tag integer not null, size integer not null, type text, key text, headers json, data ${type} not null,
    primary key (stream_id, "offset")`;
  const parts = Array.from(
    { length: partitions },
    (_, n) =>
      `create table ${table}_${n} partition of ${table} for values with (modulus ${partitions}, remainder ${n});`,
  );
  return `create table ${table} (${columns}) ${partitions > 0 ? 'partition by hash (stream_id)' : ''}; ${parts.join('')}`;
}

/** @param {number} ms @param {() => Promise<number>} work returns how many rows it handled */
async function perSecond(ms, work) {
  const started = performance.now();
  let rows = 0;
  while (performance.now() - started < ms) {
    const handled = await work();
    rows += handled;
  }
  return (rows * 1000) / (performance.now() - started);
}

/** @typedef {Record<string, { hot: number, cold: number }>} Heads the last offset, of the hot stream and of all others */

/** @param {import('pg').Client} client @param {Candidate} candidate @param {Heads} heads @param {'hot' | 'cold'} where */
async function write(client, { table, type }, heads, where) {
  const head = heads[table] ?? { hot: 0, cold: 0 };
  const place = where === 'hot' ? `${HOT}, $1::bigint + e.n` : 'e.n, $1::bigint + 1';
  const texts = Array.from({ length: ROWS }, (_, n) => JSON.stringify(payload(1, n))).join('\u001e');
  await client.query({
    name: `write ${where} ${table}`,
    text: `
      insert into ${table} (stream_id, "offset", at, tag, size, type, data)
      select ${place}, now(), e.n, octet_length(e.data), 'order.paid', e.data::${type}
      from unnest(string_to_array($2, e'\\u001e')) with ordinality e (data, n)`,
    values: [head[where], texts],
  });
  head[where] += where === 'hot' ? ROWS : 1;
  return ROWS;
}

/** @param {import('pg').Client} client @param {Candidate} candidate @param {Heads} heads @param {'hot' | 'cold'} where */
async function readPage(client, { table }, heads, where) {
  const head = heads[table]?.[where] ?? 0;
  const after = Math.floor(Math.random() * Math.max(1, head - ROWS));
  const stream = where === 'hot' ? HOT : 1 + Math.floor(Math.random() * STREAMS);
  const { rows } = await client.query({
    name: `read ${table}`,
    text: `
      select "offset"::text, tag, date_part('epoch', at) * 1000, type, key, headers::text, data::text
      from ${table} where stream_id = $1 and "offset" > $2 and "offset" <= $2 + ${ROWS} order by "offset"`,
    values: [stream, after],
    rowMode: 'array',
  });
  return rows.length;
}

/** Table and index. @param {import('pg').Client} client @param {Candidate} candidate */
async function bytesPerEvent(client, { table }) {
  const { rows } = await client.query(
    `select sum(pg_total_relation_size(c.oid))::double precision / (select count(*) from ${table}) as bytes
     from pg_class c where c.relkind = 'r' and starts_with(c.relname, $1)`,
    [table],
  );
  return rows[0].bytes;
}
