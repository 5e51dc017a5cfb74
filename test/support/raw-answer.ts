// Owns asking with bytes that no client library would send, in pieces of any size, and reading what comes back: the head,
// then either frames as they come or a whole body. Never believes a type: what it cannot read is an error.
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
  /** There is no more of it. */
  readonly isWhole: boolean;
}

/** A body in chunks, as far as it has come. @throws Error for what is none */
const unchunk = (text: string): { readonly body: string; readonly isWhole: boolean } => {
  let body = '';
  for (let at = 0; at < text.length;) {
    const end = text.indexOf('\r\n', at);
    if (end < 0) break;
    const size = text.slice(at, end);
    if (!/^[0-9a-f]+$/i.test(size)) throw new Error(`not the size of a chunk: ${JSON.stringify(size)}`);
    if (Number.parseInt(size, 16) === 0) return { body, isWhole: true };
    const from = end + 2;
    body += text.slice(from, from + Number.parseInt(size, 16));
    at = from + Number.parseInt(size, 16) + 2;
  }
  return { body, isWhole: false };
};

/** All that has come so far; undefined while the head is not complete. */
const parse = (text: string, hasBody: boolean): RawAnswer | undefined => {
  const end = text.indexOf('\r\n\r\n');
  if (end < 0) return undefined;
  const [first = '', ...lines] = text.slice(0, end).split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) /.exec(first)?.[1]);
  if (Number.isNaN(status)) throw new Error(`not an answer: ${JSON.stringify(first)}`);
  const rest = text.slice(end + 4);
  if (status < 200) return parse(rest, hasBody); // 100 Continue, before the answer
  const headers = new Map(
    lines.map((line) => {
      const colon = line.indexOf(':');
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    }),
  );
  const length = headers.get('content-length');
  const { body, isWhole } =
    headers.get('transfer-encoding') === 'chunked' && hasBody
      ? unchunk(rest)
      : { body: rest, isWhole: !hasBody || status === 204 || rest.length >= Number(length ?? Infinity) };
  const reader = new FrameReader();
  const isStream = headers.get('content-type')?.startsWith('text/event-stream') === true;
  if (isStream) reader.feed(Buffer.from(body, 'latin1'));
  if (reader.error) throw reader.error;
  const told = isStream ? '' : Buffer.from(body, 'latin1').toString();
  return { status, headers, body: told, reader, isWhole };
};

export interface RawRequest {
  /** Sent one by one. */
  readonly pieces: readonly Uint8Array[];
  /** What the client does afterwards: reads the answer, sends that it is done, or leaves. */
  readonly afterwards: 'reads' | 'finishes' | 'leaves';
  /** What is asked with HEAD is answered without one. */
  readonly hasBody: boolean;
}

/**
 * Resolves when the answer is whole, or an event stream has brought enough; with undefined where the connection ends
 * without an answer.
 */
export const exchange = (
  port: number,
  { pieces, afterwards, hasBody }: RawRequest,
  isEnough: (reader: FrameReader) => boolean,
): Promise<RawAnswer | undefined> => {
  const socket: Socket = connect(port, '127.0.0.1').setNoDelay(true);
  const send = async (): Promise<void> => {
    for (const piece of pieces) {
      await new Promise((done) => socket.write(piece, done));
      await new Promise(setImmediate); // the server takes it by itself, more often than not
    }
    if (afterwards === 'finishes') socket.end();
    if (afterwards === 'leaves') socket.destroy();
  };
  return new Promise<RawAnswer | undefined>((resolve, reject) => {
    let text = '';
    const look = (isOver: boolean): void => {
      try {
        const answer = parse(text, hasBody);
        if (isOver || answer?.isWhole || (answer && isEnough(answer.reader))) resolve(answer);
      } catch (error) {
        reject(error);
      }
    };
    socket.setEncoding('latin1').on('data', (chunk) => {
      text += String(chunk);
      look(false);
    });
    socket.on('error', () => {}); // 'close' follows
    socket.once('close', () => look(true));
    send().catch(reject);
  }).finally(() => socket.destroy());
};

/**
 * Sends a head; resolves when the server ends the answer, or an event stream has brought enough. Rejects when the
 * connection ends without an answer.
 */
export const askRaw = async (
  port: number,
  head: Uint8Array,
  isEnough: (reader: FrameReader) => boolean,
): Promise<RawAnswer> => {
  const answer = await exchange(port, { pieces: [head], afterwards: 'reads', hasBody: true }, isEnough);
  if (!answer) throw new Error('the connection ended without an answer');
  return answer;
};
