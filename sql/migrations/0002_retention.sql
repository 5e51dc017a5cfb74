-- Retention: what a stream keeps, and the work of letting go of the rest.
-- Why it looks like this, with measurements: docs/decisions/0005-retention.md.

-- What the stream keeps; null: no such bound. The log start (trimmed_to) follows in the background.
alter table :"schema".streams
  add column max_age_ms bigint constraint streams_max_age_valid check (max_age_ms >= 1),
  add column max_count bigint constraint streams_max_count_valid check (max_count >= 1),
  add column max_bytes bigint constraint streams_max_bytes_valid check (max_bytes >= 1); -- of data, as in events.size

-- serves: pages of the streams that have a bound, among any number that have none
create index streams_retained on :"schema".streams (id)
  where max_age_ms is not null or max_count is not null or max_bytes is not null;

-- How much a span of events weighs, kept for streams with max_bytes: a window that slides along the log, so that each
-- event is weighed once when it comes and once when it goes, and never the whole stream.
create table :"schema".weights (
  stream_id bigint primary key,
  from_offset bigint not null, -- the sum is of the events after this one ...
  to_offset bigint not null, -- ... up to and with this one
  bytes bigint not null,
  settled_for bigint, -- the max_bytes for which nothing was left to do; null: something was
  check (from_offset <= to_offset)
);

-- Events that no reader can see any more and whose rows are still to be removed, in bounded batches: those of deleted
-- streams, and what lies before the start of others. The spans of a stream never overlap.
alter table :"schema".purges drop constraint purges_pkey;
alter table :"schema".purges
  add column id bigint generated always as identity primary key, -- serves: the next batch, oldest first
  add column after_offset bigint not null default 0, -- removed up to here: where the next batch begins
  add column to_offset bigint; -- null: all there are, the stream is deleted

-- Replaced by others with more parameters or results; a new schema has neither yet.
drop function if exists :"schema".create_stream(text);
drop function if exists :"schema".purge_events(integer);
