// Where a session's bytes go: a web stream (any host) or a Node response (the fast path). Both say "full" honestly and
// hold at most what the session has just written.
import type { ServerResponse } from 'node:http';

export interface TransportEvents {
  /** There is room again. */
  drained(): void;
  /** The peer is gone, or the transport was ended. Called once. */
  closed(): void;
}

export interface Transport {
  /** Takes the bytes, always. False: full, until `drained`. */
  write(bytes: Buffer): boolean;
  /** Sends what is written and ends. */
  end(): void;
  /** Drops the connection with whatever is still unsent. */
  destroy(): void;
}

/** Writes straight to the socket: a buffer shared by thousands of connections is never copied. */
export function nodeTransport(response: ServerResponse, events: TransportEvents): Transport {
  response.on('drain', () => events.drained());
  response.once('close', () => events.closed());
  response.on('error', () => {}); // 'close' follows
  return {
    write: (bytes) => response.write(bytes),
    end: () => response.end(),
    destroy: () => response.destroy(),
  };
}

/**
 * A stream that asks for bytes only when it is read (high-water mark 0), so the host's own pace is the backpressure.
 * `open` is called with the first read; a body nobody reads opens nothing.
 */
export function webBody(
  open: (events: (events: TransportEvents) => Transport) => void,
): ReadableStream<Uint8Array> {
  let events: TransportEvents | undefined;
  let opened = false;
  let ended = false;
  const connect = (
    controller: ReadableStreamDefaultController<Uint8Array>,
    listener: TransportEvents,
  ): Transport => {
    events = listener;
    const finish = (how: () => void): void => {
      if (ended) return;
      ended = true;
      how();
      listener.closed();
    };
    return {
      write: (bytes) => {
        if (!ended) controller.enqueue(bytes);
        return false; // full until the next read
      },
      end: () => finish(() => controller.close()),
      destroy: () => finish(() => controller.error(new Error('the connection was dropped'))),
    };
  };
  return new ReadableStream<Uint8Array>(
    {
      pull: (controller) => {
        if (opened) return events?.drained();
        opened = true;
        open((listener) => connect(controller, listener));
      },
      cancel: () => {
        if (ended) return;
        ended = true;
        events?.closed();
      },
    },
    { highWaterMark: 0 },
  );
}
