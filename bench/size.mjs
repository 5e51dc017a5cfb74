// How the events of a log are stored, at size: 100 000 streams and 10 million events per candidate, written as they come
// in (a thousand streams at a time, in no order), so that the events of one stream lie far apart. What does a write, a
// catch-up read and retention cost then, and how many bytes does an event take beside its payload's own?
// SLUICE_BENCH_EVENTS=100000000 SLUICE_BENCH_CANDIDATES='one table' measures that candidate alone, with so many events.
import { round } from './support/report.mjs';
import { withClient } from './support/server.mjs';
import { median } from './support/statistics.mjs';

const PAYLOAD_BYTES = 200;
const ROWS_PER_CALL = 1000;
const CALLS_PER_COMMIT = 20;
const STREAMS_READ = 200;
const RETENTION_BATCH = 5000;

/** @typedef {{ name: string, table: string, type: 'json' | 'bytea', partition?: 'hash' | 'range', settings?: string, freezeEarly?: boolean }} Candidate */

/** @type {readonly [Candidate, ...Candidate[]]} */
const candidates = [
  { name: 'one table', table: 'at_size', type: 'json' },
  { name: '16 hash partitions', table: 'at_size_hash', type: 'json', partition: 'hash' },
  { name: '10 ranges of streams', table: 'at_size_range', type: 'json', partition: 'range' },
  { name: 'one table, bytea', table: 'at_size_bytea', type: 'bytea' },
  {
    name: 'one table, fillfactor 90',
    table: 'at_size_loose',
    type: 'json',
    settings: 'with (fillfactor = 90)',
  },
  { name: 'one table, frozen by its first vacuum', table: 'at_size_frozen', type: 'json', freezeEarly: true },
];

/** @param {{ server: import('./support/server.mjs').Server, quick: boolean }} context */
export async function run({ server, quick }) {
  const asked = Number(process.env['SLUICE_BENCH_EVENTS'] ?? 0);
  const events = asked > 0 ? asked : quick ? 200_000 : 10_000_000;
  const streams = quick ? 2000 : 100_000;
  const asks = process.env['SLUICE_BENCH_CANDIDATES'];
  const chosen = candidates.filter(({ name }) => asks === undefined || asks.split(';').includes(name));
  return server.withDatabase(async (url) => {
    const rows = [];
    for (const candidate of chosen) {
      const row = await withClient(url, (client) => measure(client, candidate, { events, streams }));
      console.error(row.join('  ')); // it takes long: what is measured is told at once
      rows.push(row);
    }
    return {
      tables: [
        {
          title: `${events} events of ${PAYLOAD_BYTES} bytes in ${streams} streams`,
          columns: [
            '',
            'written /s, first tenth',
            'written /s, last tenth',
            'read /s, whole streams',
            'the last 10 of a stream, ms',
            'removed /s by retention',
            'bytes per event',
            'of them index',
            'first vacuum, s (MB of WAL)',
            'vacuum against wraparound, s (MB of WAL)',
          ],
          rows,
        },
      ],
    };
  });
}

/** @param {import('pg').Client} client @param {Candidate} candidate @param {{ events: number, streams: number }} size */
async function measure(client, candidate, { events, streams }) {
  await client.query(definition(candidate, streams));
  // What vacuum does is measured, so it must not happen by itself before.
  if (candidate.partition === undefined) {
    await client.query(`alter table ${candidate.table} set (autovacuum_enabled = off)`);
  }
  const written = await fill(client, candidate, { events, streams });
  // What autovacuum does first, and what it must do before transaction ids run out.
  await client.query(`set vacuum_freeze_min_age = ${candidate.freezeEarly ? 0 : 50_000_000}`);
  const first = await vacuum(client, `vacuum (analyze) ${candidate.table}`);
  const second = await vacuum(client, `vacuum (freeze) ${candidate.table}`);
  const bytes = await bytesPerEvent(client, candidate, events);
  const read = await readStreams(client, candidate, streams);
  const removed = await retain(client, candidate, { events, streams });
  await client.query(`drop table ${candidate.table}`);
  return [
    candidate.name,
    round(written.first),
    round(written.last),
    round(read.perSecond),
    round(read.tailMs),
    round(removed),
    round(bytes.all),
    round(bytes.index),
    first,
    second,
  ];
}

/** @param {import('pg').Client} client @param {string} statement */
async function vacuum(client, statement) {
  const { rows } = await client.query('select pg_current_wal_lsn() as before');
  const started = performance.now();
  await client.query(statement);
  const seconds = (performance.now() - started) / 1000;
  const wal = await client.query(
    'select pg_wal_lsn_diff(pg_current_wal_lsn(), $1)::double precision as bytes',
    [rows[0].before],
  );
  return `${round(seconds)} (${round(wal.rows[0].bytes / 1e6)})`;
}

/** @param {Candidate} candidate @param {number} streams */
function definition({ table, type, partition, settings = '' }, streams) {
  const columns = `
    stream_id bigint not null, "offset" bigint not null, at timestamptz not null, tag integer not null,
    size integer not null, type text, key text, headers json, data ${type} not null, primary key (stream_id, "offset")`;
  if (partition === undefined) return `create table ${table} (${columns}) ${settings}`;
  const count = partition === 'hash' ? 16 : 10;
  const bounds = (/** @type {number} */ n) =>
    partition === 'hash'
      ? `with (modulus ${count}, remainder ${n})`
      : `from (${1 + Math.round((n * streams) / count)}) to (${1 + Math.round(((n + 1) * streams) / count)})`;
  const parts = Array.from(
    { length: count },
    (_, n) => `create table ${table}_${n} partition of ${table} for values ${bounds(n)};`,
  );
  return `create table ${table} (${columns}) partition by ${partition} (stream_id); ${parts.join('')}`;
}

// The streams are visited in an order that is no order (a multiplier without a common factor), each once per round; the
// rows are made by the server, so that the client is no part of what is measured.
/** @param {import('pg').Client} client @param {Candidate} candidate @param {{ events: number, streams: number }} size */
async function fill(client, { table, type }, { events, streams }) {
  const tenth = events / 10;
  /** @type {number[]} */
  const seconds = [];
  let started = performance.now();
  for (let from = 0; from < events; from += ROWS_PER_CALL * CALLS_PER_COMMIT) {
    await client.query('begin');
    for (let call = 0; call < CALLS_PER_COMMIT; call += 1) {
      await client.query({
        name: `fill ${table}`,
        text: `
          insert into ${table} (stream_id, "offset", at, tag, size, type, data)
          select 1 + (n * 7919) % $3, 1 + n / $3, now(), (random() * 4294967295 - 2147483648)::integer, ${PAYLOAD_BYTES},
            'order.paid', ${type === 'json' ? `d.text::json` : `convert_to(d.text, 'UTF8')`}
          from generate_series($1::bigint, $1 + $2 - 1) n,
            lateral (select rpad('{"id": ' || n || ', "note": "', ${PAYLOAD_BYTES - 2}, 'left at the door; ') || '"}' as text) d`,
        values: [from + call * ROWS_PER_CALL, ROWS_PER_CALL, streams],
      });
    }
    await client.query('commit');
    const done = from + ROWS_PER_CALL * CALLS_PER_COMMIT;
    if (done % tenth === 0) {
      seconds.push((performance.now() - started) / 1000);
      started = performance.now();
    }
  }
  return { first: tenth / (seconds[0] ?? Number.NaN), last: tenth / (seconds.at(-1) ?? Number.NaN) };
}

/** @param {import('pg').Client} client @param {Candidate} candidate @param {number} streams */
async function readStreams(client, { table, type }, streams) {
  const data = type === 'json' ? 'data::text' : `convert_from(data, 'UTF8')`;
  const select = `select "offset"::text, tag, date_part('epoch', at) * 1000, type, key, headers::text, ${data} from ${table}`;
  const some = () => 1 + Math.floor(Math.random() * streams);
  let rows = 0;
  const started = performance.now();
  for (let n = 0; n < STREAMS_READ; n += 1) {
    const page = await client.query({
      name: `read ${table}`,
      text: `${select} where stream_id = $1 and "offset" > $2 order by "offset" limit 1000`,
      values: [some(), 0],
      rowMode: 'array',
    });
    rows += page.rows.length;
  }
  const perSecond = (rows * 1000) / (performance.now() - started);
  const times = [];
  for (let n = 0; n < STREAMS_READ; n += 1) {
    const from = performance.now();
    await client.query({
      name: `tail ${table}`,
      text: `${select} where stream_id = $1 order by "offset" desc limit 10`,
      values: [some()],
      rowMode: 'array',
    });
    times.push(performance.now() - from);
  }
  return { perSecond, tailMs: median(times) };
}

// As purge_events does it: the oldest half of some streams, batch after batch by the primary key.
/** @param {import('pg').Client} client @param {Candidate} candidate @param {{ events: number, streams: number }} size */
async function retain(client, { table }, { events, streams }) {
  const half = Math.floor(events / streams / 2);
  let removed = 0;
  const started = performance.now();
  for (let stream = 1; removed < Math.min(200_000, events / 4); stream += 1) {
    const { rowCount } = await client.query({
      name: `retain ${table}`,
      text: `delete from ${table} where stream_id = $1 and "offset" > $2 and "offset" <= $3`,
      values: [stream, 0, Math.min(half, RETENTION_BATCH)],
    });
    removed += rowCount ?? 0;
  }
  return (removed * 1000) / (performance.now() - started);
}

/** @param {import('pg').Client} client @param {Candidate} candidate @param {number} events */
async function bytesPerEvent(client, { table }, events) {
  const { rows } = await client.query(
    `select sum(pg_total_relation_size(c.oid))::double precision as all, sum(pg_indexes_size(c.oid))::double precision as index
     from pg_class c where c.relkind = 'r' and (c.relname = $1 or starts_with(c.relname, $1 || '_'))
       and (c.relname = $1 or c.relispartition)`,
    [table],
  );
  return { all: rows[0].all / events, index: rows[0].index / events };
}
