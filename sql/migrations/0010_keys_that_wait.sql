-- Whether a key waits is asked through this index and no other can serve instead: with the statistics of a quiet moment a plan
-- takes all that a group has for one row, and would go through that.
drop index :"schema".pieces_key;
-- serves: whether an event's key waits
create index pieces_key on :"schema".pieces ((group_id + 0), partition, key_hash, (first_offset + 0)) where key_hash is not null;
