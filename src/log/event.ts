// An event as it travels inside the process (encoded, then a record: its payload still text) and as users see it (parsed).
// The one place where either is made.
import { types } from 'node:util';
import { messageOf, SluiceError } from '../util/errors.ts';
import { cursorOf } from './cursor-of.ts';

/** No offset is larger: it is a bigint in the database. A position may still name it, and what follows it must not overflow. */
export const MAX_OFFSET: bigint = 2n ** 63n - 1n;

/** What a writer gives, checked, and its payload as text. */
export interface EncodedEvent {
  readonly type: string | null;
  readonly key: string | null;
  /** The label of its audience; null: everybody. */
  readonly visibleTo: string | null;
  /** The connection that need not be told. */
  readonly exclude: string | null;
  /** JSON text of an object of strings. */
  readonly headers: string | null;
  /** JSON text, as it was given. */
  readonly data: string;
}

/** One event of a known stream, as stored. */
export interface EventRecord extends EncodedEvent {
  readonly offset: bigint;
  readonly tag: number;
  /** Milliseconds since 1970. */
  readonly atMs: number;
}

/**
 * Member by member: one shape for all that is handed to thousands of readers, wherever it comes from. What is spread has
 * several, and for each of them the engine compiles the way to the sockets anew.
 */
export const toRecord = (
  { type, key, visibleTo, exclude, headers, data }: EncodedEvent,
  offset: bigint,
  tag: number,
  atMs: number,
): EventRecord => ({ offset, tag, atMs, type, key, visibleTo, exclude, headers, data });

export interface StreamIdentity {
  readonly name: string;
  readonly incarnation: bigint;
}

/**
 * One event of a stream. `toJSON()` is the envelope of the wire, with the offset as a string. Whoever passes events on
 * outside `sluice/http` decides who may see them: `toJSON()` does not say.
 */
// A class for its toJSON alone: inherited, an event can be cloned and sent to a worker, and what is changed in a copy is
// what the copy says. It is also the quickest to make.
export class StreamEvent<T = unknown> {
  readonly stream: string;
  readonly offset: bigint;
  /** Resumes just after this event. */
  readonly cursor: string;
  readonly type: string | null;
  readonly key: string | null;
  /** The label of the audience it is meant for; null: everybody. */
  readonly visibleTo: string | null;
  /** The connection it is not sent to. */
  readonly exclude: string | null;
  readonly data: T;
  readonly headers: Record<string, string>;
  /** Assigned with the offset; never decreasing within a stream. */
  readonly at: Date;

  /** `data`: the payload, or what a reader's schema made of it. */
  constructor({ name, incarnation }: StreamIdentity, record: EventRecord, data: T) {
    const { headers } = record;
    this.stream = name;
    this.offset = record.offset;
    this.cursor = cursorOf(incarnation, record.offset, record.tag);
    this.type = record.type;
    this.key = record.key;
    this.visibleTo = record.visibleTo;
    this.exclude = record.exclude;
    this.data = data;
    this.headers = headers === null ? {} : (JSON.parse(headers) as Record<string, string>);
    this.at = new Date(record.atMs);
  }

  toJSON(): object {
    const { stream, offset, type, key, data, at } = this;
    return { stream, offset: String(offset), type, key, data, at: at.toISOString() };
  }
}

export const toStreamEvent = <T>(identity: StreamIdentity, record: EventRecord): StreamEvent<T> =>
  new StreamEvent(identity, record, JSON.parse(record.data) as T);

/** The wire envelope as JSON text, around the payload's own text: nothing stored is parsed to be sent on. */
export const envelopeText = (stream: string, record: EventRecord): string =>
  `{"stream":${JSON.stringify(stream)},"offset":"${record.offset}","type":${JSON.stringify(record.type)},` +
  `"key":${JSON.stringify(record.key)},"data":${record.data},"at":"${new Date(record.atMs).toISOString()}"}`;

/**
 * What JSON writes as nothing without an error: NaN, an invalid Date; and as {} whatever keeps what it holds elsewhere than
 * in its members: a Promise, a Map, an Error, a RegExp. Who has a toJSON means what it says, and classes may be empty.
 */
function isLost(data: unknown, text: string): boolean {
  if (data === null || (text !== 'null' && text !== '{}')) return false; // as is nearly everything
  if (typeof (data as { toJSON?: unknown }).toJSON === 'function') return isInvalidDate(data);
  if (text === 'null') return true;
  // Empty bytes are written as others are, member by member.
  return !types.isTypedArray(data) && (kindOf(data) !== 'Object' || Symbol.iterator in (data as object));
}

/** Of any realm, unless it has a toJSON of its own: every Date has one, which says null. */
const isInvalidDate = (data: unknown): boolean =>
  types.isDate(data) && Number.isNaN(Date.prototype.getTime.call(data)) && !Object.hasOwn(data, 'toJSON');

/** Such as Map, of any realm; Object for what has no kind of its own. */
const kindOf = (data: unknown): string => Object.prototype.toString.call(data).slice(8, -1);

function lost(data: unknown, text: string): SluiceError {
  const name = typeof data === 'number' ? String(data) : kindOf(data).replace(/^Object$/, 'an iterable');
  const remedy = types.isPromise(data) ? 'await it' : 'give what it holds as plain JSON';
  return new SluiceError(
    'payload_invalid',
    `the data (${name}) would be written as ${text} and be lost; ${remedy}`,
  );
}

/**
 * The JSON text to store for a payload.
 *
 * @throws SluiceError payload_invalid if it has none (undefined, a function, a cycle, a bigint, NaN, a Promise, a Map), payload_too_large
 */
export function payloadText(data: unknown, maxBytes: number): string {
  let text: string | undefined;
  try {
    text = JSON.stringify(data) as string | undefined;
  } catch (error) {
    throw new SluiceError(
      'payload_invalid',
      `the data cannot be written as JSON: ${messageOf(error)}; give a JSON value`,
      { cause: error },
    );
  }
  if (text === undefined) {
    throw new SluiceError(
      'payload_invalid',
      `the data (${typeof data}) has no JSON form; give a JSON value, or null`,
    );
  }
  if (isLost(data, text)) throw lost(data, text);
  // A UTF-16 unit takes at most three bytes of UTF-8: only a text near the limit is measured.
  if (text.length * 3 > maxBytes && Buffer.byteLength(text) > maxBytes) {
    throw new SluiceError(
      'payload_too_large',
      `the event has ${Buffer.byteLength(text)} bytes of JSON; the limit is ${maxBytes}: store the large part elsewhere and publish a reference`,
    );
  }
  return text;
}
