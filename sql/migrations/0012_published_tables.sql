-- compatible-from: 10
-- A publication of all tables (logical replication, change data capture) makes the server refuse to delete from a table
-- without a replica identity, and with that every pass. These have no unique index that could be one.
alter table :"schema".outbox_0 replica identity full;
alter table :"schema".outbox_1 replica identity full;
alter table :"schema".outbox_2 replica identity full;
alter table :"schema".delayed replica identity full;
