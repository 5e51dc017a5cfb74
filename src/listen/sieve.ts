// Takes the notifications out of what a server sends, before the driver sees the rest: read here, one costs half of what
// it costs there, and it is the driver that a flood of them waits for. Knows two things of the protocol: that every message is
// a byte of type and a length, and what a NotificationResponse looks like. All else is the driver's, in order. Pure.
// (https://www.postgresql.org/docs/current/protocol-message-formats.html)

export interface SieveEvents {
  onNotification(this: void, channel: string, payload: string, processId: number): void;
  /** All that is no notification, as it came. */
  onOther(this: void, bytes: Buffer): void;
}

const NOTIFICATION = 'A'.charCodeAt(0);
const HEADER_BYTES = 5;
/** A process id and two empty texts; a channel has 63 bytes at most, a payload 7 999. What is no such message is the driver's. */
const MIN_BYTES = HEADER_BYTES + 6;
const MAX_BYTES = 16_384;
/** Channel names kept, by their hash; those with the same hash take each other's place. */
const NAMES = 4096;

export class Sieve {
  readonly #events: SieveEvents;
  /** The beginning of a header or a notification. */
  #held: Buffer | undefined;
  /** So many bytes of a message for the driver are still to come. */
  #passing = 0;
  readonly #names: (string | undefined)[] = Array.from({ length: NAMES }, () => undefined);

  constructor(events: SieveEvents) {
    this.#events = events;
  }

  push(chunk: Buffer): void {
    const { onOther } = this.#events;
    const bytes = this.#held ? Buffer.concat([this.#held, chunk]) : chunk;
    this.#held = undefined;
    let from = 0; // what lies between here and `at` is for the driver
    let at = Math.min(this.#passing, bytes.length);
    this.#passing -= at;
    while (at + HEADER_BYTES <= bytes.length) {
      const end = at + 1 + bytes.readUInt32BE(at + 1);
      if (bytes[at] === NOTIFICATION && end - at >= MIN_BYTES && end - at <= MAX_BYTES) {
        if (end > bytes.length) break;
        if (from < at) onOther(bytes.subarray(from, at));
        this.#notify(bytes, at + HEADER_BYTES, end);
        at = end;
        from = end;
      } else {
        at = Math.min(end, bytes.length);
        this.#passing = end - at;
      }
    }
    if (from < at) onOther(bytes.subarray(from, at));
    if (at < bytes.length) this.#held = bytes.subarray(at);
  }

  #notify(bytes: Buffer, start: number, end: number): void {
    const processId = bytes.readInt32BE(start);
    const first = start + 4;
    let hash = 0;
    let zero = first;
    for (let byte = bytes[zero]; byte !== undefined && byte !== 0; byte = bytes[zero]) {
      hash = (hash * 31 + byte) | 0;
      zero += 1;
    }
    const channel = this.#name(bytes, first, zero, hash & (NAMES - 1));
    this.#events.onNotification(channel, bytes.toString('utf8', zero + 1, end - 1), processId);
  }

  /** Only names in ASCII are kept: they have a character for each byte, and can be compared without decoding. */
  #name(bytes: Buffer, start: number, end: number, slot: number): string {
    const known = this.#names[slot];
    if (known !== undefined && isAt(known, bytes, start, end)) return known;
    const name = bytes.toString('utf8', start, end);
    if (name.length === end - start) this.#names[slot] = name;
    return name;
  }
}

function isAt(name: string, bytes: Buffer, start: number, end: number): boolean {
  if (name.length !== end - start) return false;
  for (let n = 0; n < name.length; n += 1) if (name.charCodeAt(n) !== bytes[start + n]) return false;
  return true;
}
