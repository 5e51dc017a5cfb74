// The members of one stream as this process knows them, and what has changed when it looks again. What it is told is
// how things are, never a change, so being told twice, late or of everything at once does no harm. Pure.
import { encodeEvent } from '../protocol/frames.ts';
import { CONTROL_EVENTS } from '../protocol/wire.ts';

/** JSON of their state by id. */
export type Members = ReadonlyMap<string, string>;

export interface Change {
  readonly kind: 'join' | 'update' | 'leave';
  readonly id: string;
  /** JSON; of a member who left, the last one. */
  readonly state: string;
}

export class Roster {
  readonly stream: string;
  #members: Map<string, string> | undefined;
  #state: Buffer | undefined;

  constructor(stream: string) {
    this.stream = stream;
  }

  /** Whether all members are known. */
  get loaded(): boolean {
    return this.#members !== undefined;
  }

  /** These are all members. The first time nothing has changed: the state says it. */
  replace(members: Members): Change[] {
    const before = this.#members;
    if (!before) {
      this.#members = new Map(members);
      return [];
    }
    return this.update(new Set([...before.keys(), ...members.keys()]), members);
  }

  /** Of `asked`, these are members now and the others are not. */
  update(asked: ReadonlySet<string>, members: Members): Change[] {
    const known = this.#members;
    if (!known) return [];
    const changes: Change[] = [];
    for (const id of asked) {
      const [before, after] = [known.get(id), members.get(id)];
      if (before === after) continue;
      if (after === undefined) {
        known.delete(id);
        changes.push({ kind: 'leave', id, state: before ?? 'null' });
      } else {
        known.set(id, after);
        changes.push({ kind: before === undefined ? 'join' : 'update', id, state: after });
      }
    }
    if (changes.length > 0) this.#state = undefined;
    return changes;
  }

  /** The frame that tells all members, encoded once for all who need it. */
  get state(): Buffer {
    return (this.#state ??= Buffer.from(
      frameOf(
        `{"stream":${JSON.stringify(this.stream)},"kind":"state","members":[${[...(this.#members ?? [])]
          .map(([id, state]) => memberText(id, state))
          .join(',')}]}`,
      ),
    ));
  }

  /** The frames that tell of changes. */
  frames(changes: readonly Change[]): Buffer {
    const stream = JSON.stringify(this.stream);
    const texts = changes.map(({ kind, id, state }) =>
      frameOf(`{"stream":${stream},"kind":"${kind}","member":${memberText(id, state)}}`),
    );
    return Buffer.from(texts.join(''));
  }
}

const frameOf = (data: string): string => encodeEvent({ event: CONTROL_EVENTS.presence, data });

const memberText = (id: string, state: string): string => `{"id":${JSON.stringify(id)},"state":${state}}`;
