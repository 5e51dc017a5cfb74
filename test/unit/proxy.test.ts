// Guards the proxy that the fault tests stand on: a fault it claims but does not cause would make them pass for nothing.
// Real sockets against a small server that records what reached it.
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { until } from '../support/diagnostics.ts';
import { createProxy, type Proxy } from '../support/proxy.ts';

/** One end of a connection and what came to it. */
interface End {
  readonly socket: Socket;
  received: string;
  ended: boolean;
  errorCode: string | undefined;
}

const observe = (socket: Socket): End => {
  const end: End = { socket, received: '', ended: false, errorCode: undefined };
  socket.setNoDelay();
  socket.setEncoding('utf8');
  socket.on('data', (text: string) => (end.received += text));
  socket.on('end', () => (end.ended = true));
  socket.on('error', (error: NodeJS.ErrnoException) => (end.errorCode = error.code));
  return end;
};

let server: Server;
let accepted: End[];
let clients: End[];
let proxy: Proxy;

beforeEach(async () => {
  accepted = [];
  clients = [];
  server = createServer({ allowHalfOpen: true }, (socket) => accepted.push(observe(socket)));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  proxy = await createProxy({ targetPort: (server.address() as AddressInfo).port });
});

afterEach(() => {
  proxy.close();
  for (const { socket } of [...accepted, ...clients]) socket.destroy();
  server.close();
});

const dial = (): End => {
  const end = observe(connect({ port: proxy.port, host: proxy.host, allowHalfOpen: true }));
  clients.push(end);
  return end;
};

/** A connection through the proxy that has carried a byte each way. */
const open = async (): Promise<{ client: End; peer: End }> => {
  const known = accepted.length;
  const client = dial();
  client.socket.write('>');
  await until(() => accepted[known]?.received === '>');
  const peer = accepted[known]!;
  peer.socket.write('<');
  await until(() => client.received === '<');
  return { client, peer };
};

/** Resolves after bytes have made a round trip on another connection, through the same event loop and proxy. */
const roundTripOutsideTheProxy = async (): Promise<void> => {
  const direct = connect({ port: (server.address() as AddressInfo).port, host: '127.0.0.1' });
  const known = accepted.length;
  direct.write('direct');
  await until(() => accepted[known]?.received === 'direct');
  direct.destroy();
};

describe('carrying', () => {
  test('bytes pass both ways, in order and complete', async () => {
    const { client, peer } = await open();
    const large = Array.from({ length: 200_000 }, (_, i) => String(i)).join(',');
    client.socket.write(large);
    peer.socket.write(large);
    await until(() => peer.received === `>${large}` && client.received === `<${large}`);
  });

  test('an end passes without closing the other direction', async () => {
    const { client, peer } = await open();
    client.socket.end();
    await until(() => peer.ended);
    peer.socket.write('still');
    await until(() => client.received === '<still');
    peer.socket.end();
    await until(() => client.ended && proxy.connections === 0);
  });

  test('so does an end from the other side', async () => {
    const { client, peer } = await open();
    peer.socket.end();
    await until(() => client.ended);
    client.socket.write('still');
    await until(() => peer.received === '>still');
    client.socket.end();
    await until(() => peer.ended && proxy.connections === 0);
  });

  test('a reset by one side resets the other', async () => {
    const { client, peer } = await open();
    peer.socket.resetAndDestroy();
    await until(() => client.errorCode === 'ECONNRESET');
    await until(() => proxy.connections === 0);
  });

  test('a target that does not listen resets the client', async () => {
    server.close();
    const client = dial();
    await until(() => client.errorCode === 'ECONNRESET');
  });

  test('it counts connections open now and ever accepted', async () => {
    const first = await open();
    await open();
    expect([proxy.connections, proxy.accepted]).toEqual([2, 2]);
    first.client.socket.resetAndDestroy();
    await until(() => proxy.connections === 1);
    expect(proxy.accepted).toBe(2);
  });
});

describe('pause', () => {
  test('a black hole accepts, carries nothing and says nothing, then resumes in order', async () => {
    const { client, peer } = await open();
    proxy.pause();
    client.socket.write('a');
    peer.socket.write('b');
    const late = dial();
    await once(late.socket, 'connect');
    late.socket.write('late');
    await roundTripOutsideTheProxy();
    expect([peer.received, client.received, late.received]).toEqual(['>', '<', '']);
    expect([client, peer, late].map((end) => end.ended || end.socket.destroyed)).toEqual([
      false,
      false,
      false,
    ]);
    client.socket.write('c');
    proxy.resume();
    await until(() => peer.received === '>ac' && client.received === '<b');
    await until(() => accepted.some((end) => end.received === 'late'));
  });

  test('ends and resets stay unknown to the other side until it resumes', async () => {
    const [one, two] = [await open(), await open()];
    proxy.pause();
    one.peer.socket.end();
    two.peer.socket.resetAndDestroy();
    await roundTripOutsideTheProxy();
    expect([one.client.ended, two.client.errorCode, two.client.socket.destroyed]).toEqual([
      false,
      undefined,
      false,
    ]);
    proxy.resume();
    await until(() => one.client.ended && two.client.errorCode === 'ECONNRESET');
  });

  test('one direction alone', async () => {
    const { client, peer } = await open();
    proxy.pauseClientToServer();
    client.socket.write('held');
    peer.socket.write('through');
    await until(() => client.received === '<through');
    expect(peer.received).toBe('>');
    proxy.resume();
    await until(() => peer.received === '>held');
    proxy.pauseServerToClient();
    peer.socket.write('held');
    client.socket.write('through');
    await until(() => peer.received === '>heldthrough');
    expect(client.received).toBe('<through');
  });

  test('a sender into a black hole meets backpressure instead of filling memory', async () => {
    const { client } = await open();
    proxy.pause();
    const block = Buffer.alloc(1 << 20);
    for (let i = 0; i < 64; i += 1) client.socket.write(block);
    // Until nothing moves any more while another connection makes a round trip.
    let unsent = -1;
    while (unsent !== client.socket.writableLength) {
      unsent = client.socket.writableLength;
      await roundTripOutsideTheProxy();
    }
    expect(client.socket.writableLength).toBeGreaterThan(16 << 20);
  });
});

describe('breaking', () => {
  test('cut resets both sides at once, and new connections are served', async () => {
    const { client, peer } = await open();
    proxy.cut();
    await until(() => client.errorCode === 'ECONNRESET' && peer.errorCode === 'ECONNRESET');
    await until(() => proxy.connections === 0);
    await open();
  });

  test('cut reaches through a black hole', async () => {
    const { client, peer } = await open();
    proxy.pause();
    client.socket.write('held');
    proxy.cut();
    await until(() => client.errorCode === 'ECONNRESET' && peer.errorCode === 'ECONNRESET');
  });

  test('halfClose ends one direction and keeps the other', async () => {
    const { client, peer } = await open();
    proxy.halfClose('client');
    await until(() => client.ended);
    peer.socket.write('into the void');
    client.socket.write('still');
    await until(() => peer.received === '>still');
    expect([client.received, peer.ended, client.socket.destroyed]).toEqual(['<', false, false]);
    proxy.halfClose('server');
    await until(() => peer.ended);
  });

  test('refuse turns new connections away and keeps open ones; accept takes them on the same port', async () => {
    const { client, peer } = await open();
    const { port } = proxy;
    proxy.refuse();
    const refused = dial();
    await until(() => refused.errorCode === 'ECONNREFUSED');
    client.socket.write('on');
    await until(() => peer.received === '>on');
    await proxy.accept();
    expect(proxy.port).toBe(port);
    await open();
  });

  test('delay holds what is read back, in order, and 0 ends it', async () => {
    const { client, peer } = await open();
    proxy.delay(100);
    const sentAt = performance.now();
    client.socket.write('1');
    await until(() => peer.received === '>1');
    // A lower bound, the proxy's own promise, which no slow machine can break (timers may fire 1 ms early).
    expect(performance.now() - sentAt).toBeGreaterThan(98);
    client.socket.write('2');
    client.socket.write('3');
    proxy.delay(0);
    client.socket.write('4');
    await until(() => peer.received === '>1234');
  });

  test('close ends every connection and the port', async () => {
    const { client, peer } = await open();
    proxy.close();
    await until(() => client.socket.destroyed || client.ended);
    await until(() => peer.socket.destroyed || peer.ended);
    const refused = dial();
    await until(() => refused.errorCode === 'ECONNREFUSED');
    expect(proxy.connections).toBe(0);
  });
});
