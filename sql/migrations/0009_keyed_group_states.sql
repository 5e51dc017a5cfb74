-- What a claim of a keyed group would otherwise search for among all that is over, and cannot be cleaned up behind an old
-- snapshot: docs/decisions/0016-groups.md. Null: not known, so all of it is looked at.

alter table :"schema".group_states
  add held uuid[], -- the leases that were there after the claim: those of later claims are in later states
  add low bigint, -- what was dealt out to partitions and is still to be handed out has no offset before this one
  add low_seq bigint, -- the first state that said so
  add due_low timestamptz; -- nothing was due at a time before this one, but for what was committed late

-- Their parameters are others.
drop function if exists :"schema".claim_pieces(bigint, bigint, integer, uuid, uuid, bigint, bigint, timestamptz, double precision,
  double precision, bigint, integer, bigint, integer, text[]);
drop function if exists :"schema".due_pieces(bigint, timestamptz, timestamptz, bigint, integer, uuid, integer, bigint[]);
drop function if exists :"schema".dispatch(bigint, bigint, integer, bigint, integer);
