// What one frame means for the streams of a line: events and notices go to those who read them, ids move positions. The
// positions in a connection's cursor stand in the order in which its streams were asked for.
import type { Frame } from '../protocol/parse.ts';
import { CONTROL_EVENTS } from '../protocol/wire.ts';
import { presenceOf, type Feed } from './feed.ts';
import { eventItem, lossItem, present, type StreamItem, type Wire } from './item.ts';

/** What concerns the line itself. */
export type Told = Pick<Wire, 'connectionId' | 'retryMs'>;

/** @throws SyntaxError and TypeError for data that is not what the protocol says */
export function dispatch(
  { event, data, id }: Frame,
  asked: readonly Feed[],
  feeds: ReadonlyMap<string, Feed>,
): Told {
  const told = (data === undefined ? {} : JSON.parse(data)) as Wire;
  const feed = feeds.get(told.stream);
  if (event === CONTROL_EVENTS.open) {
    for (const { name, head } of told.streams) {
      const opened = feeds.get(name);
      if (opened) opened.head = BigInt(head);
    }
  }
  if (feed && event === CONTROL_EVENTS.broadcast) push(feed, { ...told, kind: 'broadcast' });
  if (feed && event === CONTROL_EVENTS.presence) {
    feed.members = present(feed.members, told);
    push(feed, presenceOf(feed));
  }
  // Told with the id that follows: a connection lost between the two hears of it again.
  if (feed && event === CONTROL_EVENTS.gap) feed.loss = lossItem('gap', told);
  if (feed && event === CONTROL_EVENTS.reset) feed.loss = lossItem('reset', told);
  if (id) move(asked, id, data && !event ? told : undefined, data?.length ?? 0);
  return told;
}

function move(asked: readonly Feed[], cursor: string, event: Wire | undefined, chars: number): void {
  const positions = cursor.split('.');
  for (const [index, feed] of asked.entries()) {
    const position = positions[index];
    if (!position) throw new TypeError(`${cursor} is no cursor of ${asked.length} streams`);
    const { loss, stream } = feed;
    feed.loss = undefined;
    feed.position = position;
    const item = loss ?? (event?.stream === stream ? eventItem(event, position) : undefined);
    for (const subscriber of feed.subscribers) subscriber.take(stream, position, item, chars);
  }
}

function push({ subscribers }: Feed, item: StreamItem): void {
  for (const subscriber of subscribers) subscriber.push(item);
}
