// Guards that our own sleep is not held against a peer: what had arrived before the deadline was looked at is in time.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { expect, test } from 'vitest';
import { deadline } from '../../src/util/deadline.ts';
import { until } from '../support/diagnostics.ts';

const block = (ms: number): void => {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
};

test('an answer that arrived while the process stood still is not late', async () => {
  const server = createServer((socket) => socket.on('data', (question) => socket.write(question)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as AddressInfo).port, '127.0.0.1');
  const peer = (await once(server, 'connection'))[0] as { write(text: string): void };
  let [answered, late] = [false, false];
  client.on('data', () => {
    answered = true;
    settled();
  });
  const settled = deadline(1, () => (late = true));
  peer.write('answer');
  block(50);
  await until(() => answered || late);
  expect({ answered, late }).toEqual({ answered: true, late: false });
  client.destroy();
  server.close();
});

test('what does not come is late, once; what was settled is not', async () => {
  let [late, other] = [0, 0];
  deadline(1, () => (late += 1));
  deadline(1, () => (other += 1))();
  await until(() => late === 1);
  expect(other).toBe(0);
});
