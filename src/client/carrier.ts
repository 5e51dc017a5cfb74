// What has the streams of subscribers read: directly, over connections of this page, or through another tab.
import { wallClockMs } from '../util/clock.ts';
import type { Line } from './line.ts';
import { Lines } from './lines.ts';
import { listenToPage } from './page.ts';
import type { Settings } from './settings.ts';
import type { Status } from './status.ts';
import type { Subscriber } from './subscriber.ts';

export interface Carrier {
  /** Delivers to the subscriber from where it stands, until it is over. */
  attach(subscriber: Subscriber): void;
  detach(subscriber: Subscriber): void;
  /** For when no subscriber is left. */
  close(): void;
}

/** Reads over connections of this page. */
export function carryDirectly(settings: Settings, onStatus: (status: Status) => void): Carrier {
  const lines = new Lines(settings, onStatus);
  const each = (act: (line: Line) => void): void => lines.all.forEach(act);
  const close = listenToPage({
    // Another network may be there: what looks connected is not.
    online: () => each((line) => line.input({ kind: line.state.kind === 'live' ? 'restart' : 'wake' })),
    offline: () => each((line) => line.input({ kind: 'lost', nowMs: wallClockMs() })),
    seen: () => each((line) => line.wake()),
  });
  return {
    attach: (subscriber) => lines.attach(subscriber),
    detach: (subscriber) => lines.detach(subscriber),
    close,
  };
}
