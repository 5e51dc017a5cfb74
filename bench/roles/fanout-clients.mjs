// A process that holds many event-stream connections over bare sockets, counts what arrives on each, and confirms a round
// when all of it has arrived on all of them. Of one connection in a hundred it also takes how old each event was.
import { once } from 'node:events';
import { connect } from 'node:net';
import { dial, nowNs } from '../support/event-stream.mjs';
import { serve } from '../support/role.mjs';

const MARK = '"sent":';
const AT_A_TIME = 100;
const PATH = '/v1/events?stream=fanout';
const nowMicros = () => nowNs() / 1000;

/** @type {import('node:net').Socket[]} */
const sockets = [];
/** @type {import('node:net').Socket} */
let control;
let port = 0;
let missing = Infinity;
let size = 1;
/** @type {number[]} */
let latencies = [];

/** @param {boolean} sampled */
async function open(sampled) {
  const socket = dial(port, PATH);
  await once(socket, 'data'); // the head
  let rest = '';
  socket.on('data', (chunk) => {
    const text = rest + chunk.toString('latin1');
    let at = text.indexOf(MARK);
    let end = 0;
    let count = 0;
    for (; at !== -1; at = text.indexOf(MARK, end)) {
      end = at + MARK.length;
      count += 1;
      if (sampled) latencies.push(nowMicros() - Number.parseInt(text.slice(end, end + 20), 10));
    }
    rest = text.endsWith('\n\n') ? '' : text.slice(Math.max(end, text.length - MARK.length - 20));
    missing -= count;
    if (missing > 0 || count === 0) return;
    missing = sockets.length * size;
    control.write('.');
  });
  socket.on('error', () => {});
  sockets.push(socket);
}

serve({
  open: async (/** @type {number} */ serverPort, /** @type {number} */ controlPort) => {
    port = serverPort;
    control = connect({ port: controlPort, host: '127.0.0.1', noDelay: true });
    control.on('error', () => {});
    await once(control, 'connect');
  },
  /** So many more. */
  connect: async (/** @type {number} */ count) => {
    for (let from = 0; from < count; from += AT_A_TIME) {
      const size = Math.min(AT_A_TIME, count - from);
      await Promise.all(Array.from({ length: size }, (_, n) => open((from + n) % 100 === 0)));
    }
  },
  expect: (/** @type {number} */ events) => {
    size = events;
    missing = sockets.length * size;
    latencies = [];
  },
  latencies: () => latencies,
  close: () => {
    for (const socket of sockets) socket.destroy();
    control.destroy();
  },
});
