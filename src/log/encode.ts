// What a caller gives, checked and turned into what is stored, before anything is sent: a bad event is refused alone
// and at once.
import { streamNameProblem, typeProblem } from '../protocol/wire.ts';
import { SluiceError } from '../util/errors.ts';
import { shown } from '../util/shown.ts';
import { toExclude, toVisibleTo } from './audience.ts';
import { payloadText, type EncodedEvent } from './event.ts';

/** Limits on what is accepted; bytes are of JSON text. */
export interface Limits {
  readonly maxEventBytes: number;
  readonly maxBatchEvents: number;
  readonly maxBatchBytes: number;
}

export const DEFAULT_LIMITS: Limits = Object.freeze({
  maxEventBytes: 2 ** 20,
  maxBatchEvents: 10_000,
  maxBatchBytes: 64 * 2 ** 20,
});

/** One event to write. */
export interface NewEvent<T = unknown> {
  readonly data: T;
  readonly type?: string | undefined;
  readonly key?: string | undefined;
  readonly headers?: Record<string, string> | undefined;
  /** Who may see it over HTTP: a label, 1 to 128 bytes, that the handler's `audiences` decides on. Default: everybody. */
  readonly visibleTo?: string | undefined;
  /** A connection that need not be told: the `connectionId` of its `sluice:open`. */
  readonly exclude?: string | null | undefined;
}

/** @throws SluiceError name_invalid */
export function checkStreamName(name: unknown, what?: string): asserts name is string {
  const problem = streamNameProblem(name, what);
  if (problem !== undefined) throw new SluiceError('name_invalid', problem);
}

/** @throws SluiceError payload_invalid, payload_too_large, name_invalid */
export function encodeEvent(event: NewEvent, { maxEventBytes }: Limits): EncodedEvent {
  const { data, type, key, headers, visibleTo, exclude } = event;
  if (type !== undefined) {
    const problem = typeProblem(type);
    if (problem !== undefined) throw new SluiceError('name_invalid', problem);
  }
  if (key !== undefined) checkKey(key, maxEventBytes);
  return {
    data: payloadText(data, maxEventBytes),
    type: type ?? null,
    key: key ?? null,
    visibleTo: toVisibleTo(visibleTo),
    exclude: toExclude(exclude),
    headers: headers === undefined ? null : headersText(headers, maxEventBytes),
  };
}

/** @throws RangeError for an empty batch; SluiceError payload_too_large for one over the limits */
export function encodeBatch(events: readonly NewEvent[], limits: Limits): EncodedEvent[] {
  if (events.length === 0) throw new RangeError('the batch is empty; give at least one event');
  if (events.length > limits.maxBatchEvents) {
    throw new SluiceError(
      'payload_too_large',
      `the batch has ${events.length} events; the limit is ${limits.maxBatchEvents}: send it in parts`,
    );
  }
  const encoded = events.map((event, index) => encodeOneOf(event, index, limits));
  const size = sizeOf(encoded);
  if (size > limits.maxBatchBytes) {
    throw new SluiceError(
      'payload_too_large',
      `the batch has ${size} bytes of JSON; the limit is ${limits.maxBatchBytes}: send it in parts`,
    );
  }
  return encoded;
}

function encodeOneOf(event: NewEvent, index: number, limits: Limits): EncodedEvent {
  try {
    return encodeEvent(event, limits);
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    throw new SluiceError(error.code, `events[${index}]: ${error.message}`, { cause: error.cause, index });
  }
}

/** What events weigh in memory and on the way, in UTF-16 units: what bounds on bytes count. */
export function sizeOf(events: readonly EncodedEvent[]): number {
  let size = 0;
  for (const { data, key, headers } of events) {
    size += data.length + (key?.length ?? 0) + (headers?.length ?? 0);
  }
  return size;
}

function headersText(headers: Record<string, string>, maxBytes: number): string {
  // A list, a Map or a fetch Headers has entries of another kind: as JSON they would be lost in silence.
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) {
    throw new SluiceError(
      'payload_invalid',
      'headers must be an object of strings; make one of a Map or of Headers with Object.fromEntries',
    );
  }
  for (const [name, value] of Object.entries(headers)) {
    if (typeof value !== 'string') {
      throw new SluiceError(
        'payload_invalid',
        `header ${JSON.stringify(name)} must be a string, not ${typeof value}`,
      );
    }
  }
  return payloadText(headers, maxBytes);
}

// PostgreSQL's text can hold neither U+0000 nor a lone surrogate.
function checkKey(key: unknown, maxBytes: number): void {
  if (typeof key !== 'string' || key.includes('\0') || /\p{Cs}/u.test(key)) {
    throw new SluiceError(
      'payload_invalid',
      `key ${shown(key)} must be a string without U+0000 and lone surrogates`,
    );
  }
  if (key.length * 3 > maxBytes && Buffer.byteLength(key) > maxBytes) {
    throw new SluiceError(
      'payload_too_large',
      `the key has ${Buffer.byteLength(key)} bytes; the limit is ${maxBytes}: give one that names the thing, such as its id`,
    );
  }
}

/** Separates JSON texts in one parameter: no JSON text can contain it raw. */
export const RECORD_SEPARATOR = '\u001e';

/** The columns of many events as parameters of publish_many and append_batch; a column nobody uses is null. */
export function toColumns(events: readonly EncodedEvent[]): {
  readonly data: string;
  readonly types: (string | null)[] | null;
  readonly keys: (string | null)[] | null;
  readonly headers: (string | null)[] | null;
  readonly visibleTo: (string | null)[] | null;
  readonly exclude: (string | null)[] | null;
} {
  const column = (member: Exclude<keyof EncodedEvent, 'data'>): (string | null)[] | null =>
    events.some((event) => event[member] !== null) ? events.map((event) => event[member]) : null;
  return {
    data:
      events.length === 1
        ? (events[0] as EncodedEvent).data
        : events.map((event) => event.data).join(RECORD_SEPARATOR),
    types: column('type'),
    keys: column('key'),
    headers: column('headers'),
    visibleTo: column('visibleTo'),
    exclude: column('exclude'),
  };
}
