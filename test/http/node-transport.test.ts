// Guards what a Node response makes of a session's bytes: over HTTP/1.1 well-formed chunks on the socket itself, whoever else
// is sent the same bytes; and the response's own way wherever the socket is not ours to write to.
import { once } from 'node:events';
import { createServer, request as ask, type RequestListener, type ServerResponse } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import { afterEach, expect, test } from 'vitest';
import { NodeTransport } from '../../src/http/node-transport.ts';
import type { TransportEvents } from '../../src/http/transport.ts';
import { until } from '../support/diagnostics.ts';

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const listening = async (listener: RequestListener): Promise<number> => {
  const server = createServer(listener);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanups.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
};

const silent: TransportEvents = { drained: () => {}, closed: () => {} };

/** With its head sent, as the listener does it. */
const transportOn = (response: ServerResponse, events = silent): NodeTransport => {
  response.writeHead(200, { connection: 'close' });
  response.flushHeaders();
  return new NodeTransport(response, events);
};

/** All that is answered to a text, until the end of the connection. */
const answerTo = async (port: number, text: string): Promise<string> => {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  socket.write(text);
  let answer = '';
  for await (const piece of socket) answer += String(piece);
  return answer;
};

const bodyOf = async (port: number): Promise<Buffer> => {
  const asked = ask({ port, host: '127.0.0.1' }).end();
  const [response] = (await once(asked, 'response')) as [AsyncIterable<Buffer>];
  const pieces: Buffer[] = [];
  for await (const piece of response) pieces.push(piece);
  return Buffer.concat(pieces);
};

const sizes = [1, 15, 16, 300, 65_535, 65_536, 65_537, 1_000_000];
const parts = sizes.map((size, index) => Buffer.alloc(size, String.fromCharCode(97 + index)));

test('I2: what is written arrives byte for byte, in pieces of any size, to all who are sent the same', async () => {
  const transports: NodeTransport[] = [];
  const port = await listening((_, response) => void transports.push(transportOn(response)));
  const bodies = Promise.all([bodyOf(port), bodyOf(port), bodyOf(port)]);
  await until(() => transports.length === 3);
  for (const part of parts) for (const transport of transports) transport.write(part);
  for (const [index, part] of parts.entries()) transports[index % 3]?.write(part); // and each its own
  for (const transport of transports) transport.end(10_000);
  const own = (who: number): Buffer[] => parts.filter((_, index) => index % 3 === who);
  const expected = new Set([0, 1, 2].map((who) => Buffer.concat([...parts, ...own(who)]).toString()));
  expect(new Set((await bodies).map(String))).toEqual(expected);
});

test('a chunk is a size, the bytes and an end, and the last one is empty', async () => {
  const port = await listening((_, response) => {
    const transport = transportOn(response);
    transport.write(Buffer.from('a'.repeat(26)));
    transport.write(Buffer.alloc(0));
    transport.end(10_000);
  });
  const answer = await answerTo(port, 'GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  expect(answer.slice(answer.indexOf('\r\n\r\n'))).toBe(`\r\n\r\n1a\r\n${'a'.repeat(26)}\r\n0\r\n\r\n`);
});

test('full is said until there is room again, and then once', async () => {
  let drained = 0;
  let transport: NodeTransport | undefined;
  const port = await listening((_, response) => {
    transport = transportOn(response, { ...silent, drained: () => (drained += 1) });
  });
  const socket = connect(port, '127.0.0.1').pause();
  cleanups.push(() => socket.destroy());
  socket.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await until(() => transport !== undefined);
  const large = Buffer.alloc(4_000_000);
  expect([transport?.write(large), transport?.write(large), drained]).toEqual([false, false, 0]);
  socket.resume();
  await until(() => drained > 0);
  expect([drained, transport?.write(Buffer.from('small'))]).toEqual([1, true]);
});

test('a middleware that watches what is written sees it', async () => {
  const seen: string[] = [];
  const port = await listening((_, response) => {
    const write = response.write.bind(response);
    response.write = (bytes: Buffer) => {
      seen.push(String(bytes));
      return write(bytes);
    };
    const transport = transportOn(response);
    transport.write(Buffer.from('one'));
    transport.end(10_000);
  });
  expect([String(await bodyOf(port)), seen]).toEqual(['one', ['one']]);
});

test('without chunks, as HTTP/1.0 has it, and behind an answer that is not over yet, bytes arrive as they are', async () => {
  let first: ServerResponse | undefined;
  let asked = 0;
  const port = await listening((request, response) => {
    asked += 1;
    if (request.url === '/first') {
      first = response;
    } else {
      const transport = transportOn(response);
      transport.write(Buffer.from('stream'));
      transport.end(10_000);
    }
  });
  expect(await answerTo(port, 'GET / HTTP/1.0\r\n\r\n')).toMatch(/\r\n\r\nstream$/);
  const both = answerTo(port, 'GET /first HTTP/1.1\r\nhost: x\r\n\r\nGET / HTTP/1.1\r\nhost: x\r\n\r\n');
  await until(() => asked === 3);
  first?.end('first');
  expect(await both).toMatch(/\r\n\r\nfirstHTTP\/1\.1 200 OK\r\n[^]*\r\n\r\n6\r\nstream\r\n0\r\n\r\n$/);
});
