// Messages of one stream on their way to its connections: encoded once for all who get the same of them. Pure.
import { encodeEvent } from '../protocol/frames.ts';
import { CONTROL_EVENTS } from '../protocol/wire.ts';
import type { Ephemeral } from './unseen.ts';

/** Selections that are kept to be shared, at most. */
const MAX_PARTS = 16;

export class Broadcasts {
  readonly #messages: readonly Ephemeral[];
  /** Whether everybody may see all of them. */
  readonly isForAll: boolean;
  #bytes: Buffer | undefined;
  /** By which of the messages, a digit each, they hold. */
  readonly #parts = new Map<string, Buffer>();

  /** @param messages one or more of one stream, in order */
  constructor(messages: readonly Ephemeral[]) {
    this.#messages = messages;
    this.isForAll = messages.every(({ visibleTo, exclude }) => visibleTo === null && exclude === null);
  }

  /** The frames of all. */
  get bytes(): Buffer {
    return (this.#bytes ??= encode(this.#messages));
  }

  /** The frames of those that are kept; the same buffer for all who keep the same. Undefined: none. */
  only(keeps: (message: Ephemeral) => boolean): Buffer | undefined {
    let which = '';
    const kept = this.#messages.filter((message) => {
      const isKept = keeps(message);
      which += isKept ? '1' : '0';
      return isKept;
    });
    if (kept.length === this.#messages.length) return this.bytes;
    if (kept.length === 0) return undefined;
    const part = this.#parts.get(which) ?? encode(kept);
    if (this.#parts.size < MAX_PARTS) this.#parts.set(which, part);
    return part;
  }
}

const encode = (messages: readonly Ephemeral[]): Buffer =>
  Buffer.from(messages.map(encodeBroadcast).join(''));

/** The frame of a message: no id, since nothing of it is kept to resume from, and nothing of whom it is for. */
const encodeBroadcast = ({ stream, type, data }: Ephemeral): string =>
  encodeEvent({
    event: CONTROL_EVENTS.broadcast,
    data: `{"stream":${JSON.stringify(stream)},"type":${JSON.stringify(type)},"data":${data}}`,
  });
