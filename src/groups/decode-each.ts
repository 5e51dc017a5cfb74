// From what was handed out to the events that a handler gets. What the stream's schema refuses has failed, by its own
// fault; the others go on without it.
import type { Decode } from '../log/decode.ts';
import type { StreamEvent, StreamIdentity } from '../log/event.ts';
import { errorText } from './error-text.ts';
import type { HandedOut } from './handed-out.ts';
import type { Failure } from './store.ts';

export async function decodeEach<T>(
  decode: Decode<T>,
  stream: StreamIdentity,
  handed: readonly HandedOut[],
): Promise<{ events: StreamEvent<T>[]; failed: Failure[] }> {
  const events: StreamEvent<T>[] = [];
  const failed: Failure[] = [];
  for (const { record } of handed) {
    try {
      const event = decode(stream, record);
      events.push(event instanceof Promise ? await event : event);
    } catch (error) {
      failed.push({ offset: record.offset, error: errorText(error) });
    }
  }
  return { events, failed };
}
