// Owns the client's end of an event stream over a bare socket: cheaper than an HTTP client, so that one process can be
// thousands of clients. Knows what the bytes look like, and nothing of what is measured.
import { connect } from 'node:net';

/** Stands just before the moment an order was made (support/payload.mjs), in nanoseconds of `process.hrtime`. */
const STAMP = '"status":"paid","at":"';
const STAMP_DIGITS = 20;
const CURSOR = /^[0-9a-z]+-([0-9a-z]+)-[0-9a-z]+$/;

export const nowNs = () => Number(process.hrtime.bigint());

/**
 * Asks for a stream as soon as it is connected.
 *
 * @param {number} port @param {string} path @param {string} [lastEventId]
 */
export function dial(port, path, lastEventId) {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  const header = lastEventId === undefined ? '' : `last-event-id: ${lastEventId}\r\n`;
  socket.write(`GET ${path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n${header}\r\n`);
  return socket;
}

/** Of its first bytes. @param {Buffer} bytes */
export function requireAccepted(bytes) {
  const status = bytes.toString('latin1', 0, 12);
  if (status !== 'HTTP/1.1 200') throw new Error(`a stream was answered with ${status}`);
}

/** @param {string} cursor */
export function offsetOf(cursor) {
  const [, offset] = CURSOR.exec(cursor) ?? [];
  if (offset === undefined) throw new Error(`${JSON.stringify(cursor)} is not a cursor`);
  return Number.parseInt(offset, 36);
}

/** When the newest event in the bytes was made, if there is a whole stamp in them. @param {Buffer} bytes */
export function newestStamp(bytes) {
  for (let at = bytes.lastIndexOf(STAMP); at >= 0; at = at === 0 ? -1 : bytes.lastIndexOf(STAMP, at - 1)) {
    const from = at + STAMP.length;
    if (from + STAMP_DIGITS <= bytes.length)
      return Number.parseInt(bytes.toString('latin1', from, from + STAMP_DIGITS), 10);
  }
  return undefined;
}

/**
 * Calls back for each event, and fails when one is missing or comes twice.
 *
 * @param {import('node:net').Socket} socket
 * @param {{ after?: string | undefined, see: (stampNs: number, cursor: string) => void }} how `after`: the cursor it follows
 */
export function followEvents(socket, { after, see }) {
  let last = after === undefined ? undefined : offsetOf(after);
  let rest = '';
  socket.on('data', (chunk) => {
    const text = rest + chunk.toString('latin1');
    let start = 0;
    for (let end = text.indexOf('\n\n'); end !== -1; end = text.indexOf('\n\n', start)) {
      const stamp = text.indexOf(STAMP, start);
      if (stamp !== -1 && stamp < end) {
        const id = text.indexOf('id: ', start) + 'id: '.length;
        const cursor = text.slice(id, text.indexOf('\n', id));
        const offset = offsetOf(cursor);
        if (last !== undefined && offset !== last + 1) throw new Error(`${offset} came after ${last}`);
        last = offset;
        const from = stamp + STAMP.length;
        see(Number.parseInt(text.slice(from, from + STAMP_DIGITS), 10), cursor);
      }
      start = end + 2;
    }
    rest = text.slice(start);
  });
}
