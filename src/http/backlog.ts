// What a connection that is full keeps of its ephemerals until there is room: shared buffers, within a bound, the newest.
// Pure.

export class Backlog {
  readonly #maxBytes: number;
  #buffers: Buffer[] = [];
  #bytes = 0;

  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Keeps the buffer; returns how many were dropped for it, itself included if it is too large. */
  add(buffer: Buffer): number {
    this.#buffers.push(buffer);
    this.#bytes += buffer.length;
    let dropped = 0;
    while (this.#bytes > this.#maxBytes) {
      this.#bytes -= this.#buffers[dropped]?.length ?? 0;
      dropped += 1;
    }
    if (dropped > 0) this.#buffers = this.#buffers.slice(dropped);
    return dropped;
  }

  /** All that is kept, in order, or undefined; it keeps nothing then. */
  take(): Buffer | undefined {
    if (this.#buffers.length === 0) return undefined;
    const all = this.#buffers.length === 1 ? this.#buffers[0] : Buffer.concat(this.#buffers);
    this.#buffers = [];
    this.#bytes = 0;
    return all;
  }
}
