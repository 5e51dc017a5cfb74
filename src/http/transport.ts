// Where a session's bytes go: a web stream (any host, below) or a Node response (node-transport.ts, the fast path). Both say
// "full" honestly and hold at most what the session has just written.

export interface TransportEvents {
  /** There is room again. */
  drained(): void;
  /** The peer is gone, or the transport was ended. Called once. */
  closed(): void;
}

export interface Transport {
  /** Takes the bytes, always. False: full, until `drained`. */
  write(bytes: Buffer): boolean;
  /** Sends what is written and ends; drops what is still unsent after that long, so that no peer can hold it open. */
  end(withinMs: number): void;
  /** Drops the connection with whatever is still unsent. */
  destroy(): void;
}

/** What a body belongs to. */
export interface BodyOwner {
  start(open: (events: TransportEvents) => Transport): void;
  /** The body was given up before its first read. */
  closed(): void;
}

/**
 * A stream that asks for bytes only when it is read (high-water mark 0), so the host's own pace is the backpressure.
 * Its owner starts with the first read; a body nobody reads opens nothing.
 */
export function webBody(owner: BodyOwner): ReadableStream<Uint8Array> {
  let events: TransportEvents | undefined;
  let started = false;
  let asked = false; // a read waits that has been given nothing yet
  let over = false;
  const finish = (how: () => void): void => {
    if (over) return;
    over = true;
    how();
    events?.closed();
  };
  const transportOn = (controller: ReadableStreamDefaultController<Uint8Array>): Transport => ({
    write: (bytes) => {
      if (over) return false;
      asked = false;
      controller.enqueue(bytes); // calls `pull` before it returns when another read waits
      return asked;
    },
    end: () => finish(() => controller.close()),
    destroy: () => finish(() => controller.error(new Error('the connection was dropped'))),
  });
  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        asked = true;
        if (started) return events?.drained();
        started = true;
        owner.start((listener) => {
          events = listener;
          return transportOn(controller);
        });
      },
      cancel: () => {
        if (over) return;
        over = true;
        (events ?? owner).closed();
      },
    },
    { highWaterMark: 0 },
  );
}
