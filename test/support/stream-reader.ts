// Owns collecting what a client's subscription yields, so that tests can wait for it and judge it.
import type { StreamItem, Subscription } from 'sluice/client';
import { until } from './diagnostics.ts';

export interface Reader {
  readonly items: StreamItem[];
  /** Of the events, in order of arrival. */
  readonly offsets: number[];
  /** The same of one stream. */
  of(stream: string): number[];
  /** How the iteration ended. */
  over: 'end' | Error | undefined;
  /** Waits for this many events. */
  received(count: number): Promise<void>;
}

export const collect = (subscription: Subscription): Reader => {
  const reader: Reader = {
    items: [],
    offsets: [],
    over: undefined,
    of: (stream) =>
      reader.items.flatMap((item) =>
        item.kind === 'event' && item.stream === stream ? [Number(item.offset)] : [],
      ),
    received: (count) =>
      until(() => reader.offsets.length >= count).catch((error: unknown) => {
        throw new Error(`${reader.offsets.length} of ${count}: ${String(reader.over)}`, { cause: error });
      }),
  };
  const read = async (): Promise<void> => {
    for await (const item of subscription) {
      reader.items.push(item);
      if (item.kind === 'event') reader.offsets.push(Number(item.offset));
    }
  };
  read().then(
    () => (reader.over = 'end'),
    (error: unknown) => (reader.over = error as Error),
  );
  return reader;
};
