// Owns the tables that Sluice is compared with: what somebody would write who needs the rows and nothing else.

/** A user's own table. */
export const orders = `
  create table orders (id bigserial primary key, customer integer not null, total numeric not null)`;

/** An event as a plain row. */
export const plainEvents = `
  create table plain_events (
    id bigserial primary key, stream text not null, type text, key text, headers json, data json not null,
    at timestamptz not null default clock_timestamp()
  )`;

/** The parameters are those of `plainEvent`. */
export const insertPlainEvent =
  'insert into plain_events (stream, type, key, headers, data) values ($1, $2, $3, $4, $5)';

/** @param {object} data @returns {unknown[]} */
export const plainEvent = (data) => ['orders', 'order.paid', null, null, JSON.stringify(data)];

/** What one would write by hand to hand events on: rows that a process takes away again and numbers as it goes. */
export const outboxByHand = `
  create table outbox_by_hand (
    id bigserial primary key, stream text not null, type text, key text, headers json, data json not null
  );
  create table events_by_hand (
    "offset" bigserial primary key, stream text not null, at timestamptz not null default clock_timestamp(),
    type text, key text, headers json, data json not null
  )`;

/** The parameters are those of `plainEvent`. */
export const insertByHand =
  'insert into outbox_by_hand (stream, type, key, headers, data) values ($1, $2, $3, $4, $5)';

/** Loses and doubles nothing; knows neither the order of commits nor one offset after another. */
export const moveByHand = `
  with taken as (delete from outbox_by_hand returning stream, type, key, headers, data), moved as (
    insert into events_by_hand (stream, type, key, headers, data) select * from taken returning 1
  ) select count(*)::integer as moved, pg_notify('events_by_hand', '') from moved`;

/** The shape of Sluice's own events, primary key included; the caller numbers the rows. */
export const rawEvents = `
  create table raw_events (
    stream_id bigint not null, "offset" bigint not null, at timestamptz not null, tag integer not null,
    size integer not null, type text, key text, headers json, data json not null, primary key (stream_id, "offset")
  )`;

/** Many rows with one statement and the same parameters that append sends: texts joined by U+001E, arrays or nulls. */
export const insertRawEvents = `
  insert into raw_events (stream_id, "offset", at, tag, size, type, key, headers, data)
  select 1, $1::bigint + e.n, now(), e.tag, octet_length(e.data), e.type, e.key, e.headers::json, e.data::json
  from unnest(string_to_array($2, e'\\u001e'), $3::integer[], $4::text[], $5::text[], $6::text[])
    with ordinality as e (data, tag, type, key, headers, n)`;
