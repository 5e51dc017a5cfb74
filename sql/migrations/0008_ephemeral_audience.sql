-- Ephemerals for some of those who are connected, as events can be: docs/ephemerals.md.

alter table :"schema".ephemerals
  add visible_to text, -- who may see it: a label that the server in front decides on; null: everybody
  add exclude uuid; -- the connection that caused it, and need not be told

-- Without the two parameters it would stand beside the new one, and no call would say which is meant.
drop function if exists :"schema".broadcast(text, json, text);
