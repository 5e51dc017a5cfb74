-- compatible-from: 10
-- What a transaction has delayed is not looked up any more.
drop index :"schema".delayed_xid;
