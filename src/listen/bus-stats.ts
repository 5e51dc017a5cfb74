// The figures of a bus, as its users see them: what it is doing, and what it has counted since it began.
import type { ListenerState } from './listener.ts';

/** What a bus is doing and has done. */
export interface NotifyBusStats {
  readonly state: ListenerState;
  readonly generation: number;
  /** Sessions after the first. */
  readonly reconnects: number;
  readonly channels: number;
  /** Those by handlers included, here and below. */
  readonly subscriptions: number;
  /** Messages that went to subscriptions, each counted for each of them. */
  readonly messages: number;
  /** Of them, pushed out of a subscription's buffer before they were read. */
  readonly missed: number;
  /** How often a subscription was told that something may be missing, each counted for each of them. */
  readonly gaps: number;
  /** Of the messages, skipped because they did not fit the schema. */
  readonly malformed: number;
  /** Calls of handlers that threw, or whose promise was rejected. */
  readonly failed: number;
  /** How much of the server's notification queue was in use at the last heartbeat, 0 to 1; null before it. */
  readonly queueUsage: number | null;
  /** How long the last heartbeat took, in milliseconds; null before it. */
  readonly roundTripMs: number | null;
}
