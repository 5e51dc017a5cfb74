// Owns asking with bytes that no client library would send, and reading what comes back: the head, then either frames as
// they come or a whole body. Never believes a length or a type: what it cannot read is an error.
import { connect, type Socket } from 'node:net';
import { FrameReader } from './sse.ts';

export interface RawAnswer {
  readonly status: number;
  /** Names in lower case; the last of several counts. */
  readonly headers: ReadonlyMap<string, string>;
  /** Of an answer that is no event stream. */
  readonly body: string;
  /** Of an event stream. */
  readonly reader: FrameReader;
}

/** A body in chunks, as far as it has come. @throws Error for what is none */
const unchunk = (text: string): string => {
  let body = '';
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\r\n', at);
    if (end < 0) break;
    const size = text.slice(at, end);
    if (!/^[0-9a-f]+$/i.test(size)) throw new Error(`not the size of a chunk: ${JSON.stringify(size)}`);
    const from = end + 2;
    body += text.slice(from, from + Number.parseInt(size, 16));
    at = from + Number.parseInt(size, 16) + 2;
  }
  return body;
};

/** All that has come so far; undefined while the head is not complete. */
const parse = (text: string): RawAnswer | undefined => {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]);
  if (Number.isNaN(status)) throw new Error(`not an answer: ${JSON.stringify(first)}`);
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const rest = text.slice(end + 4);
  const body = headers.get('transfer-encoding') === 'chunked' ? unchunk(rest) : rest;
  const reader = new FrameReader();
  const isStream = headers.get('content-type')?.startsWith('text/event-stream') === true;
  if (isStream) reader.feed(Buffer.from(body, 'latin1'));
  if (reader.error) throw reader.error;
  return { status, headers, body: isStream ? '' : Buffer.from(body, 'latin1').toString(), reader };
};

/**
 * Sends a head, which must ask for `connection: close`; resolves when the server ends the answer, or an event stream has
 * brought enough. Rejects when the connection ends without an answer.
 */
export const askRaw = (
  port: number,
  head: Uint8Array,
  isEnough: (reader: FrameReader) => boolean,
): Promise<RawAnswer> => {
  let socket: Socket;
  return new Promise<RawAnswer>((resolve, reject) => {
    let text = '';
    const look = (isOver: boolean): void => {
      try {
        const answer = parse(text);
        if (answer && (isOver || isEnough(answer.reader))) resolve(answer);
        else if (isOver) reject(new Error(`ended after ${JSON.stringify(text.slice(0, 200))}`));
      } catch (error) {
        reject(error);
      }
    };
    socket = connect(port, '127.0.0.1', () => socket.write(head));
    socket.setEncoding('latin1').on('data', (chunk) => {
      text += String(chunk);
      look(false);
    });
    socket.on('error', () => {}); // 'close' follows
    socket.once('close', () => look(true));
  }).finally(() => socket.destroy());
};
