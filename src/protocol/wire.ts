// Names on the wire, and the rules for the names users choose. Shared by server and client: they must never skew. Pure.

/** Control events. They never carry an id, so they never move a client's cursor. */
export const CONTROL_EVENTS = {
  open: 'sluice:open',
  gap: 'sluice:gap',
  reset: 'sluice:reset',
  shutdown: 'sluice:shutdown',
  broadcast: 'sluice:broadcast',
  presence: 'sluice:presence',
} as const;
export type ControlEvent = (typeof CONTROL_EVENTS)[keyof typeof CONTROL_EVENTS];

const MAX_STREAM_NAME_BYTES = 512;
const MAX_TYPE_BYTES = 128;

const CONTROL_CHARACTER = /\p{Cc}/u;
const LONE_SURROGATE = /\p{Cs}/u; // with the u flag a pair is one code point and does not match
const encoder = /* @__PURE__ */ new TextEncoder();
// A UTF-16 unit takes one to three bytes of UTF-8: only a text near the limit is measured.
const isLongerThan = (text: string, bytes: number): boolean =>
  text.length > bytes || (text.length * 3 > bytes && encoder.encode(text).length > bytes);

/**
 * What is wrong with a stream name, or another name with its rules; undefined if it is valid: 1 to 512 bytes of UTF-8
 * without control characters.
 */
export function streamNameProblem(name: unknown, what: string = 'stream name'): string | undefined {
  if (typeof name !== 'string') return `a ${what} must be a string, not ${typeof name}`;
  if (name === '') return `a ${what} must not be empty`;
  if (isLongerThan(name, MAX_STREAM_NAME_BYTES)) {
    return `${what} ${preview(name)} is longer than ${MAX_STREAM_NAME_BYTES} bytes of UTF-8`;
  }
  if (CONTROL_CHARACTER.test(name)) return `${what} ${preview(name)} contains a control character`;
  if (LONE_SURROGATE.test(name))
    return `${what} ${preview(name)} contains a lone surrogate, which UTF-8 cannot encode`;
  return undefined;
}

/** What is wrong with an event type; undefined if it is valid. */
export function typeProblem(type: unknown): string | undefined {
  if (typeof type !== 'string') return `an event type must be a string, not ${typeof type}`;
  if (type === '') return 'an event type must not be empty; leave it out instead';
  if (isLongerThan(type, MAX_TYPE_BYTES)) {
    return `event type ${preview(type)} is longer than ${MAX_TYPE_BYTES} bytes of UTF-8`;
  }
  if (CONTROL_CHARACTER.test(type)) return `event type ${preview(type)} contains a control character`;
  if (LONE_SURROGATE.test(type))
    return `event type ${preview(type)} contains a lone surrogate, which UTF-8 cannot encode`;
  if (type === 'open' || type === 'error' || type.startsWith('sluice:')) {
    return `event type ${preview(type)} is reserved; choose one that is not open, error or sluice:…`;
  }
  return undefined;
}

const preview = (text: string): string => JSON.stringify(text.length > 80 ? `${text.slice(0, 80)}…` : text);
