// Owns a server of events without a network: each request of a client waits for the test to say what comes. For what
// depends on which connection brings what first; everything else is tested over sockets.
import { createClient, type Client, type ClientOptions } from 'sluice/client';
import { onTestFinished } from 'vitest';
import { until } from './diagnostics.ts';

export interface Attempt {
  readonly streams: readonly string[];
  readonly after: string | null;
  readonly lastEventId: string | null;
  /** The client has let go of it. */
  readonly isOver: boolean;
  /** Answers with an event stream: these streams end at these offsets. */
  open(heads: Readonly<Record<string, number>>): void;
  /** An id alone. */
  id(cursor: string): void;
  event(stream: string, offset: number, cursor?: string): void;
  /** A control event. */
  tell(event: string, data: Readonly<Record<string, unknown>>): void;
  /** The connection breaks. */
  cut(): void;
  answer(status: number, problem?: Readonly<Record<string, unknown>>): void;
}

export interface ScriptedEvents {
  readonly fetch: NonNullable<ClientOptions['fetch']>;
  readonly client: Client;
  readonly attempts: readonly Attempt[];
  /** The attempt number `index`, once it is made. */
  readonly attempt: (index: number) => Promise<Attempt>;
}

/** A position in the streams of these tests. */
export const at = (offset: number, incarnation = 1): string =>
  `${incarnation}-${offset.toString(36)}-${offset === 0 ? 0 : 7}`;

const json = (value: unknown): string => JSON.stringify(value);

export const scriptEvents = (options: Partial<ClientOptions> = {}): ScriptedEvents => {
  const attempts: Attempt[] = [];
  const fetch: ScriptedEvents['fetch'] = (address, { headers, signal }) => {
    const { searchParams } = new URL(address);
    let send!: (text: string) => void;
    let cut!: () => void;
    const answered = new Promise<Response>((answer, refuse) => {
      signal.addEventListener('abort', () => refuse(signal.reason as Error));
      const body = new ReadableStream<Uint8Array>({
        start: (controller) => {
          const encoder = new TextEncoder();
          send = (text) => signal.aborted || controller.enqueue(encoder.encode(`${text}\n\n`));
          cut = () => controller.error(new TypeError('cut'));
          signal.addEventListener('abort', () => controller.error(signal.reason));
        },
      });
      attempts.push({
        streams: searchParams.getAll('stream'),
        after: searchParams.get('after'),
        lastEventId: headers.get('last-event-id'),
        get isOver() {
          return signal.aborted;
        },
        open: (heads) => {
          answer(new Response(body, { headers: { 'content-type': 'text/event-stream' } }));
          const streams = Object.entries(heads).map(([name, head]) => ({ name, head: String(head) }));
          send(`event: sluice:open\ndata: ${json({ connectionId: `c${attempts.length}`, streams })}`);
        },
        id: (cursor) => send(`id: ${cursor}`),
        event: (stream, offset, cursor = at(offset)) => {
          const data = { stream, offset: String(offset), type: null, key: null, data: offset, at: 0 };
          send(`id: ${cursor}\ndata: ${json(data)}`);
        },
        tell: (event, data) => send(`event: ${event}\ndata: ${json(data)}`),
        cut: () => cut(),
        answer: (status, problem = {}) =>
          answer(
            new Response(json(problem), {
              status,
              headers: { 'content-type': 'application/problem+json' },
            }),
          ),
      });
    });
    return answered;
  };
  const client = createClient({
    url: 'http://scripted.invalid',
    backoff: { initialMs: 1, maxMs: 5 },
    refusedRetryMs: 60_000,
    fetch,
    ...options,
  });
  onTestFinished(() => client.close());
  return {
    client,
    fetch,
    attempts,
    attempt: async (index) => {
      await until(() => attempts.length > index);
      return attempts[index]!;
    },
  };
};
