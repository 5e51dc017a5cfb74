// Owns the clients of a soak: a crowd that comes and goes, each in one of the manners in which clients do. Every visit ends
// by what it is sent, or by a bound; one that is sent anything but the next event of a stream fails the crowd.
import { connect as dial } from 'node:net';
import type { Sluice } from 'sluice';
import { createClient } from 'sluice/client';
import { until } from './diagnostics.ts';
import { askRaw } from './raw-answer.ts';
import type { Random } from './seed.ts';
import type { SoakServer } from './soak-server.ts';
import { openSse, type SseClient } from './sse.ts';

export interface Stage {
  readonly server: SoakServer;
  readonly sluice: Sluice;
  readonly random: Random;
  /** Written to all the time. */
  readonly streams: readonly string[];
  /** Has more than the buffers of a connection hold. */
  readonly big: string;
}

const query = (streams: readonly string[], more: Readonly<Record<string, string>> = {}): string =>
  String(
    new URLSearchParams([
      ...streams.map((stream): [string, string] => ['stream', stream]),
      ...Object.entries(more),
    ]),
  );

/** Frames before the first event: retry, sluice:open, the first id. */
const OPENING = 3;

/** Waits for events, or for the end of the connection; the offsets of each stream follow one another. */
const read = async (client: SseClient, count: number): Promise<void> => {
  await client.until(({ frames, over }) => over !== undefined || frames.length >= count + OPENING);
  const last = new Map<string, bigint>();
  for (const { data } of client.events) {
    const { stream, offset } = JSON.parse(data!) as { stream: string; offset: string };
    const before = last.get(stream);
    if (before !== undefined && BigInt(offset) !== before + 1n)
      throw new Error(`${stream}: ${offset} after ${before}`);
    last.set(stream, BigInt(offset));
  }
};

let visitors = 0;

/** In order of how often they are drawn. */
const manners: Readonly<Record<string, (stage: Stage) => Promise<void>>> = {
  reads: async ({ server, streams, random }) => {
    using client = await openSse(server.url(query([random.pick(streams)], { after: 'start' })));
    await read(client, 1 + random.below(50));
  },
  'waits for what is new': async ({ server, streams, random }) => {
    using client = await openSse(server.url(query([random.pick(streams)])));
    await read(client, 1 + random.below(5));
  },
  'is cut and resumes': async ({ server, streams, random }) => {
    const url = server.url(query([random.pick(streams)]));
    let lastEventId = '';
    for (let cuts = 0; cuts < 3; cuts += 1) {
      using client = await openSse(url, { lastEventId });
      await read(client, 3);
      ({ lastEventId } = client);
      client.socket.resetAndDestroy();
    }
  },
  'reads several streams': async ({ server, streams, random }) => {
    using client = await openSse(server.url(query(streams)));
    await read(client, 1 + random.below(20));
  },
  'takes part': async ({ server, streams, random }) => {
    const presence = JSON.stringify({ n: random.below(5) });
    const who = `member ${random.below(30)}`;
    using client = await openSse(server.url(query([random.pick(streams)], { presence, who })));
    await read(client, 1 + random.below(3));
  },
  'uses the client': async ({ server, streams, random }) => {
    await using client = createClient({ url: server.url('') });
    const wanted = [random.pick(streams), random.pick(streams)];
    let left = 1 + random.below(10);
    for await (const { kind } of client.subscribe(wanted)) if (kind === 'event' && (left -= 1) <= 0) break;
  },
  'leaves before it is answered': async ({ server, streams }) => {
    const socket = dial(server.port, '127.0.0.1');
    socket.on('error', () => {});
    await new Promise((resolve) => socket.once('connect', resolve));
    socket.write(`GET /v1/events?${query([streams[0]!], { after: 'start' })} HTTP/1.1\r\nhost: x\r\n\r\n`);
    socket.resetAndDestroy();
  },
  'is refused': async ({ server, streams, random }) => {
    const asked = random.pick([query(['nowhere']), query([streams[0]!], { after: '1-2' }), '']);
    const head = `GET /v1/events?${asked} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`;
    const { status } = await askRaw(server.port, Buffer.from(head), () => false);
    if (status !== 400 && status !== 404) throw new Error(`${asked} was answered ${status}`);
  },
  'sees its stream deleted': async ({ server, sluice }) => {
    const name = `passing ${(visitors += 1)}`;
    await sluice.stream(name).append(1);
    using client = await openSse(server.url(query([name], { after: 'start' })));
    await read(client, 1);
    await sluice.deleteStream(name);
    await client.ended();
  },
};

/** Stops reading until it is dropped for it. */
const stall = async ({ server, big }: Stage, signal: AbortSignal): Promise<void> => {
  const before = (await server.look()).ended;
  for (let { slow, lifetime } = before; slow === before.slow && !signal.aborted;) {
    using client = await openSse(server.url(query([big], { after: 'start' })));
    client.pause();
    // It may also have lived its time before the buffers were full; it does not notice either.
    const known = lifetime;
    await until(async () => {
      ({ slow, lifetime } = (await server.look()).ended);
      return slow > before.slow || lifetime > known;
    });
  }
};

/** Stays for as long as the server lets it. */
const stay = async ({ server, streams }: Stage, signal: AbortSignal): Promise<void> => {
  using client = await openSse(server.url(query(streams)));
  await client.until(({ over }) => signal.aborted || over !== undefined);
};

/**
 * Keeps so many visits going at a time until the signal, beside one client that stalls and one that stays; resolves when
 * those under way have ended.
 */
export const churn = async (stage: Stage, width: number, signal: AbortSignal): Promise<void> => {
  const { random } = stage;
  const names = Object.keys(manners);
  const visit = async (): Promise<void> => {
    while (!signal.aborted) {
      const name = names[Math.min(random.below(names.length), random.below(names.length))]!;
      await manners[name]!(stage).catch((error: unknown) => {
        throw new Error(`who ${name}`, { cause: error });
      });
    }
  };
  const again = async (client: typeof stay): Promise<void> => {
    while (!signal.aborted) await client(stage, signal);
  };
  await Promise.all([again(stall), again(stay), ...Array.from({ length: width }, visit)]);
};

const writeTo = async (
  name: string,
  { sluice, random }: Stage,
  pause: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> => {
  const stream = sluice.stream(name);
  for (let n = 0; !signal.aborted; n += 1) {
    await stream.appendMany(Array.from({ length: 1 + random.below(4) }, () => ({ data: { n } })));
    await stream.publish({ n, padding: 'x'.repeat(random.below(400)) });
    if (n % 10 === 0) await stream.broadcast({ n });
    await pause();
  }
};

/** Writes to each stream in every way, with a pause after each turn, until the signal. */
export const write = async (
  stage: Stage,
  pause: () => Promise<unknown>,
  signal: AbortSignal,
): Promise<void> => {
  await Promise.all(stage.streams.map((name) => writeTo(name, stage, pause, signal)));
};

/** Resolves when nobody is connected any more. */
export const allHaveLeft = (server: SoakServer, sockets: number): Promise<void> =>
  until(async () => {
    const held = await server.look();
    return held.connections === 0 && held.sockets <= sockets;
  });
