// One connection: a fetch whose body is read as an event stream. Tells its owner what happens in order, asks it for room
// before each read, and holds nothing but the frame that is still incomplete. Never retries.
import { createFrameParser, type Frame } from '../protocol/parse.ts';
import { wallClockMs } from '../util/clock.ts';
import { problemOf, retryAfterMs } from './problem.ts';
import type { LineInput } from './state.ts';

/** The part of `fetch` that is used. */
export type FetchLike = (url: string, init: RequestInit) => Promise<Response>;

export interface ConnectionOwner {
  /** An event stream was opened. */
  opened(): void;
  /** Bytes came, whatever they are. */
  heard(): void;
  frame(frame: Frame): void;
  /** A chunk's frames have been told. Reading goes on when this resolves. */
  settled(): Promise<void>;
}

/** Reads until the connection ends, then says how. Rejects as fetch and reading do; ends quietly when aborted. */
export async function readEvents(
  open: () => Promise<Response>,
  signal: AbortSignal,
  owner: ConnectionOwner,
): Promise<LineInput> {
  const response = await open();
  const { status, headers, body } = response;
  if (status !== 200 || !body || !headers.get('content-type')?.startsWith('text/event-stream')) {
    const problem = await problemOf(response);
    return { kind: 'answered', problem, retryAfterMs: retryAfterMs(response, wallClockMs()) };
  }
  owner.opened();
  const reader = body.getReader();
  const decoder = new TextDecoder();
  const parser = createFrameParser();
  for (;;) {
    const { value, done } = await reader.read();
    if (done || signal.aborted) break;
    owner.heard();
    for (const frame of parser.feed(decoder.decode(value, { stream: true }))) {
      owner.frame(frame);
      // What a frame leads to may end this connection; the rest comes again on the next one.
      if (signal.aborted) break;
    }
    await owner.settled();
  }
  return { kind: 'lost', nowMs: wallClockMs() };
}
