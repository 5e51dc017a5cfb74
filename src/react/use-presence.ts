// Who is present on a stream, for a component that shows it, and which is thereby present itself.
import { useMemo, useSyncExternalStore } from 'react';
import type { Client } from '../client/client.ts';
import type { Member, StreamItem } from '../client/item.ts';
import { createStreamStore } from './stream-store.ts';

export interface PresenceOptions {
  /** What the others see, as JSON, unless the grant says it. Another one is another connection. Default: null. */
  readonly state?: unknown;
}

const NOBODY: readonly Member[] = [];

/**
 * Who is present on a stream, and to be present on it oneself; nobody, on none, for null. Needs a grant of presence.
 *
 * @example
 * const members = usePresence(client, 'room', { state: { name } });
 */
export function usePresence(
  client: Client,
  stream: string | null,
  { state = null }: PresenceOptions = {},
): readonly Member[] {
  const said = JSON.stringify(state);
  const store = useMemo(
    () =>
      createStreamStore<unknown, readonly Member[]>(client, stream, {
        presence: JSON.parse(said) as unknown,
        initial: NOBODY,
        reduce: lastMembers,
      }),
    [client, stream, said],
  );
  return useSyncExternalStore(store.subscribe, store.get, store.get).value;
}

const lastMembers = (before: readonly Member[], items: readonly StreamItem[]): readonly Member[] =>
  items.reduce((members, item) => (item.kind === 'presence' ? item.members : members), before);
