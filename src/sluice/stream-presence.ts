// Who is present in a stream, as users ask: read from the database, so it is right in every process, also in one that
// serves nobody.
import type { Database } from '../db/database.ts';
import { countMembers, loadMembers, type PresentMember } from '../presence/members.ts';
import { throwIfAborted, waitOrAbort } from '../util/abort.ts';

interface Asking {
  readonly signal?: AbortSignal | undefined;
}

/** Who is connected to a stream over HTTP with a grant that names a member; several connections of one count once. */
export interface StreamPresence {
  /** The members, by id; `state` is what their newest connection said, or the grant. @throws SluiceError */
  list(options?: Asking): Promise<PresentMember[]>;
  /** How many members there are. @throws SluiceError */
  count(options?: Asking): Promise<number>;
}

export function presenceOf(database: Database, stream: string): StreamPresence {
  const list = async (): Promise<PresentMember[]> => {
    const members = await loadMembers({ database, stream });
    return [...members].map(([id, state]) => ({ id, state: JSON.parse(state) as unknown }));
  };
  return {
    list: async ({ signal } = {}) => {
      throwIfAborted(signal);
      return waitOrAbort(list(), signal);
    },
    count: async ({ signal } = {}) => {
      throwIfAborted(signal);
      return waitOrAbort(countMembers({ database, stream }), signal);
    },
  };
}
