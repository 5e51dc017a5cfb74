// How the connections of a client are, in one word and in detail. Pure.
import type { Problem } from './state.ts';
import type { LineState } from './state.ts';

/**
 * `idle`: nothing is subscribed to. `connecting`: on the way. `live`: connected. `waiting`: lost, and tried again by
 * itself. `refused`: the server says no (401, 403, 404); asked again now and then. `failed`: it says no for good, which its
 * subscriptions throw. `closed`: by `close()`.
 */
export type ConnectionState = LineState['kind'];

export interface Connection {
  readonly state: ConnectionState;
  /**
   * The server's name for it, to leave out the actor's own connection (`exclude`). Null until it is live, and where tabs
   * share it: that would leave out all of them.
   */
  readonly id: string | null;
  readonly streams: readonly string[];
  /** Why it waits or is refused, as far as that is known. */
  readonly problem: Problem | null;
}

export interface Status {
  /** Of all connections, the one that is worst off. */
  readonly state: ConnectionState;
  readonly problem: Problem | null;
  readonly connections: readonly Connection[];
}

const WORST: readonly ConnectionState[] = ['failed', 'refused', 'waiting', 'connecting', 'live'];

export const summarize = (connections: readonly Connection[]): Status => ({
  state: WORST.find((state) => connections.some((each) => each.state === state)) ?? 'idle',
  problem: connections.find(({ problem }) => problem)?.problem ?? null,
  connections,
});
