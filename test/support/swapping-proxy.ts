// Owns what poolers and proxies can do to a session: another server process answers, on a connection that stays. A proxy
// that, on command, puts another process id into the next answer to the listener's heartbeat (src/listen/session.ts).
import { MessageProxy, type Edit, type Target } from './message-proxy.ts';

const ROW_DESCRIPTION = 'T'.charCodeAt(0);
const DATA_ROW = 'D'.charCodeAt(0);
/** In a DataRow: type, length and the number of columns; then, for each column, its length and its text. */
const FIRST_COLUMN = 7;

export class SwappingProxy {
  readonly #proxy: MessageProxy;
  #swapping = false;
  #swapped: Swap | undefined;

  constructor(target: Target) {
    this.#proxy = new MessageProxy(target, () => this.#editor());
  }

  get port(): number {
    return this.#proxy.port;
  }

  /** What the last heartbeat that was tampered with would have said, and what it said. */
  get swapped(): Swap | undefined {
    return this.#swapped;
  }

  /** The next heartbeat is answered by another process. */
  swap(): void {
    this.#swapping = true;
  }

  async listen(): Promise<this> {
    await this.#proxy.listen();
    return this;
  }

  [Symbol.dispose](): void {
    this.#proxy[Symbol.dispose]();
  }

  #editor(): Edit {
    let isBeat = false;
    return (message) => {
      if (message[0] === ROW_DESCRIPTION) isBeat = message.includes('pid\0') && message.includes('usage\0');
      if (message[0] !== DATA_ROW || !isBeat || !this.#swapping) return message;
      this.#swapping = false;
      const other = Buffer.from(message);
      const from = FIRST_COLUMN + 4;
      const end = from + message.readInt32BE(FIRST_COLUMN);
      // Another last digit: as long as before, so that no length changes.
      other[end - 1] = message[end - 1] === DIGIT_ONE ? DIGIT_ONE + 1 : DIGIT_ONE;
      const textOf = (row: Buffer): number => Number(row.toString('latin1', from, end));
      this.#swapped = { from: textOf(message), to: textOf(other) };
      return other;
    };
  }
}

const DIGIT_ONE = '1'.charCodeAt(0);

interface Swap {
  readonly from: number;
  readonly to: number;
}
