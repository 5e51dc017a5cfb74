-- compatible-from: 10
-- What a group gave up before it was moved may be handed out again for that; requeueing it must not hand it out twice.
alter table :"schema".groups add sought_at timestamptz; -- when it was moved last
-- Nobody knows when those that are there were moved. To look at what was given up before is never wrong.
update :"schema".groups set sought_at = clock_timestamp();
