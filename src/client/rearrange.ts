// The connections of a client, put in order when there is more than the usual. A stream is read twice only while somebody
// catches up with those who are further; then the two become one again. What a server refuses as a whole is asked for in
// parts, so that one stream out of bounds does not silence the others. Loaded when it is needed, which is rare.
import { MAX_CURSOR_POSITIONS } from '../protocol/cursor.ts';
import type { Carrier } from './carrier.ts';
import type { Feed } from './feed.ts';
import { canJoin, isLive } from './joining.ts';
import type { Line } from './line.ts';
import { presenceOf } from './presence.ts';
import { Refusals } from './refusals.ts';
import type { LineState } from './state.ts';
import type { Subscriber } from './subscriber.ts';

/** The connections of a client, as far as they are put in order here. */
export interface Connections extends Carrier {
  readonly all: Set<Line>;
  /** Once several streams were refused together. */
  refusals: Refusals | undefined;
  addLine(presence: string | undefined, state?: LineState): Line;
  /** Brings the connections in line with what is wanted, once for all that changes in this task. */
  flushSoon(): void;
  /** Says how the connections are. */
  tell(): void;
}

/** Puts a subscriber where all its streams are being read already, if it misses nothing there. */
export function join(lines: Connections, subscriber: Subscriber): boolean {
  for (const line of lines.all) {
    if (!isFlowing(line) || line.presence !== subscriber.presence) continue;
    const feeds = [...line.feeds.values()].filter(
      (feed) => subscriber.streams.includes(feed.stream) && canJoin(subscriber.startOf(feed.stream), feed),
    );
    if (feeds.length < subscriber.streams.length) continue;
    for (const feed of feeds) {
      add(feed, subscriber);
      subscriber.take(feed.stream, feed.position!);
    }
    return true;
  }
  return false;
}

function add(feed: Feed, subscriber: Subscriber): void {
  feed.subscribers.add(subscriber);
  if (feed.members) subscriber.push(presenceOf(feed));
}

/** After a line has read something: joins it with others where neither misses anything. */
export function unite(lines: Connections, line: Line): void {
  for (const feed of line.feeds.values()) hand(lines, line, feed);
  fold(lines, line);
  lines.flushSoon();
}

/** Readers of a stream go on where others stand at the same place. With those who are behind they would wait. */
function hand(lines: Connections, line: Line, feed: Feed): void {
  for (const other of lines.all) {
    if (other === line || !isFlowing(other) || other.presence !== line.presence) continue;
    const onto = other.feeds.get(feed.stream);
    if (!onto?.position || onto.position !== feed.position) continue;
    for (const subscriber of feed.subscribers) {
      subscriber.apart = false;
      add(onto, subscriber);
      line.leave(feed, subscriber);
    }
    return;
  }
}

/** Whether a line reads on: not one that is waited for, nor one that waits for its readers. */
const isFlowing = ({ state, readers }: Line): boolean =>
  state.kind === 'live' && !readers.some((reader) => reader.full);

/** Two connections that have room for each other, and nothing to catch up with, become one. */
function fold(lines: Connections, line: Line): void {
  for (const other of lines.all) {
    if (other === line || other.presence !== line.presence) continue;
    if (!isCaughtUp(line) || !isCaughtUp(other)) continue;
    const streams = [...line.feeds.keys()];
    if (streams.some((stream) => other.feeds.has(stream))) continue;
    if (streams.length + other.feeds.size > MAX_CURSOR_POSITIONS) continue;
    if (lines.refusals?.concern([...streams, ...other.feeds.keys()])) continue;
    for (const [stream, feed] of line.feeds) other.feeds.set(stream, feed);
    line.feeds.clear();
    line.stale = true;
    other.stale = true;
    return;
  }
}

const isCaughtUp = ({ state, feeds }: Line): boolean =>
  state.kind === 'live' && feeds.size > 0 && [...feeds.values()].every(isLive);

/** One half stays, the other gets a line of its own; both are asked for again after a wait that grows. */
export function split(lines: Connections, line: Line): void {
  const { state } = line;
  if (state.kind !== 'refused' && state.kind !== 'failed') return; // something else happened while this was loaded
  if (state.problem.status === 401) return; // it is not about streams
  const feeds = [...line.feeds.values()];
  lines.refusals ??= new Refusals();
  lines.refusals.add(line.connection);
  line.input({ kind: 'split' });
  const other = lines.addLine(line.presence, line.state);
  for (const feed of feeds.slice(Math.ceil(feeds.length / 2))) {
    line.feeds.delete(feed.stream);
    other.feeds.set(feed.stream, feed);
  }
  lines.tell();
}

/**
 * Resolves when no reader of the line is full. Who takes less than others leaves it, goes on alone when it has taken what
 * it has, and comes back when it has caught up. Where all are full, they are waited for.
 */
export async function makeRoom(lines: Connections, line: Line): Promise<void> {
  const { state } = line;
  while (line.state === state) {
    const { readers } = line;
    const full = readers.filter((reader) => reader.full);
    if (full.length === 0) return;
    if (full.length === readers.length) await Promise.race(full.map((reader) => reader.drained()));
    else for (const reader of full) goAlone(lines, reader);
  }
}

function goAlone(lines: Connections, reader: Subscriber): void {
  lines.detach(reader);
  reader.apart = true;
  void reader.drained().then(() => reader.over || lines.attach(reader));
}
