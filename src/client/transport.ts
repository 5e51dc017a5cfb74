// The body of an event stream, as frames. Holds nothing but the frame that is still incomplete; reads no further than it
// is asked to, so that whoever does not ask holds the server up and nobody else.
import { createFrameParser, type Frame } from '../protocol/parse.ts';

/** The part of `fetch` that is used. */
export type FetchLike = (url: string, init: FetchInit) => Promise<Response>;
export interface FetchInit {
  readonly cache: 'no-store';
  readonly headers: Headers;
  readonly signal: AbortSignal;
}

export const isEventStream = ({ status, headers }: Response): boolean =>
  status === 200 && !!headers.get('content-type')?.startsWith('text/event-stream');

/** The frames that each chunk completes; none for chunks that complete none. Rejects as reading does. */
export async function* framesOf({ body }: Response): AsyncGenerator<readonly Frame[], void, undefined> {
  const reader = body?.getReader();
  const decoder = new TextDecoder();
  const parser = createFrameParser();
  for (;;) {
    const chunk = await reader?.read();
    if (!chunk?.value) return;
    yield parser.feed(decoder.decode(chunk.value, { stream: true }));
  }
}
