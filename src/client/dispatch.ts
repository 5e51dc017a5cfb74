// What one frame means for the streams of a line: events and notices go to those who read them, ids move positions. The
// positions in a connection's cursor stand in the order in which its streams were asked for.
import type { Frame } from '../protocol/parse.ts';
import type { ControlEvent } from '../protocol/wire.ts';
import type { Feed } from './feed.ts';
import { eventItem, lossItem, type LossItem, type StreamItem, type Wire } from './item.ts';

/** What concerns the line itself. */
export type Told = Pick<Wire, 'connectionId' | 'retryMs'>;

/** Takes in what is told of presence; undefined where that was not asked for. */
export type Notices = { takePresence(this: void, feed: Feed, told: Wire): void } | undefined;

/** @throws SyntaxError and TypeError for data that is not what the protocol says */
export function dispatch(
  { event, data, id }: Frame,
  asked: readonly Feed[],
  feeds: ReadonlyMap<string, Feed>,
  notices: Notices,
): Told {
  const chars = data?.length ?? 0;
  const told = (data === undefined ? {} : JSON.parse(data)) as Wire;
  const feed = feeds.get(told.stream);
  const name = event as ControlEvent | undefined; // the literals below are checked against it
  if (name === 'sluice:open') {
    for (const { name, head } of told.streams) {
      const opened = feeds.get(name);
      if (opened) opened.head = BigInt(head);
    }
  }
  if (feed) {
    if (name === 'sluice:broadcast')
      for (const subscriber of feed.subscribers) subscriber.push({ ...told, kind: 'broadcast' }, chars);
    if (name === 'sluice:presence') notices?.takePresence(feed, told);
    // Told with the id that follows: a connection lost between the two hears of it again.
    if (name === 'sluice:gap' || name === 'sluice:reset')
      feed.loss = lossItem(name.slice(7) as LossItem['kind'], told);
  }
  if (id) move(asked, id, data && !event ? told : undefined, chars);
  return told;
}

function move(asked: readonly Feed[], cursor: string, event: Wire | undefined, chars: number): void {
  const positions = cursor.split('.');
  // Beginnings first: the cursor of what is told next speaks of all streams.
  for (const [index, feed] of asked.entries())
    if (!feed.position)
      for (const subscriber of feed.subscribers) subscriber.take(feed.stream, positions[index] ?? '');
  for (const [index, feed] of asked.entries()) {
    const position = positions[index];
    if (!position) throw new TypeError(cursor);
    const { loss, stream } = feed;
    feed.loss = undefined;
    let item: StreamItem | undefined = loss;
    if (loss) feed.seen = 0n;
    else if (event?.stream === stream) {
      item = eventItem(event, position);
      if (item.offset <= feed.seen) continue; // told twice, by whoever stands between
      feed.seen = item.offset;
    }
    feed.position = position;
    for (const subscriber of feed.subscribers) subscriber.take(stream, position, item, chars);
  }
}
