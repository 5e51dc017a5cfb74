-- What handlers have delivered, interval by interval, for those who ask to keep it.
-- Why it looks like this: docs/decisions/0015-stats-history.md.

create table :"schema".stats_history (
  at timestamptz not null, -- the end of the interval
  id bigint generated always as identity,
  span_ms double precision not null,
  expires_at timestamptz not null,
  instance text not null, -- the process, as it calls itself
  run uuid not null, -- the handler in it, another one after each start
  sequence bigint not null, -- of the interval, from 1
  stream text collate "C", -- null: all that the handler did
  connections integer not null, -- open at the end; all others are counts of the interval
  opened bigint not null,
  evicted bigint not null,
  events bigint not null,
  bytes bigint not null,
  live_events bigint not null,
  live_deliveries bigint not null,
  replay_events jsonb not null, -- histograms: how many fell above the bound before and at or below this one, by bound
  replay_events_sum double precision not null,
  latency_ms jsonb not null,
  latency_ms_sum double precision not null,
  ended jsonb, -- of the handler alone: connections by reason
  refused jsonb, -- requests by status
  left_out integer, -- streams that were read and have no row
  check ((stream is null) = (ended is not null)),
  check ((stream is null) = (refused is not null)),
  check ((stream is null) = (left_out is not null)),
  primary key (at, id) -- serves: pages of all since a time
);

-- serves: an interval written a second time, because the answer to the first was lost
create unique index stats_history_interval on :"schema".stats_history (run, sequence, coalesce(stream, ''));

-- serves: pages of one stream, or of the handlers, since a time
create index stats_history_stream on :"schema".stats_history (stream, at, id);

-- serves: the next batch of those whose time is over
create index stats_history_expiry on :"schema".stats_history (expires_at);
