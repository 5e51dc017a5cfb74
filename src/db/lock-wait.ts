// Owns how long one statement may wait for a lock: less than the time after which a server that has not answered counts
// as lost (database.ts), or a wait would be taken for a dead peer. Who may wait longer asks again.

const MAX_LOCK_WAIT_MS = 50_000;

/** Whole milliseconds, at least one, for a caller that would wait `ms`. */
export const lockWaitMs = (ms: number): number => Math.min(MAX_LOCK_WAIT_MS, Math.max(1, Math.ceil(ms)));
