-- Refuses a name that could never be a stream, before anything is written. The same rule as the constraint on
-- streams; a control character could forge frames and log lines downstream.
create or replace function :"schema".check_stream_name(p_stream text) returns void
language plpgsql immutable
set search_path = pg_catalog, pg_temp
as $$
begin
  if p_stream is null or octet_length(p_stream) not between 1 and 512 or p_stream ~ '[\u0001-\u001f\u007f-\u009f]' then
    raise exception 'stream name % is not valid', coalesce(quote_literal(left(p_stream, 80)), 'null')
      using errcode = 'SL004', hint = 'use 1 to 512 bytes of UTF-8 without control characters';
  end if;
end
$$;
