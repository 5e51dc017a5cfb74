// Server-sent events, encoded: the frames of /v1/events as text. Ids are our own cursors, event names are checked when
// they are written into a stream, and data is split at every line end that a parser knows, so that nothing a user
// stores can forge a field, a frame or an id. Source: WHATWG HTML, 9.2 "Server-sent events". Pure.

export interface EventFrame {
  readonly id?: string | undefined;
  readonly event?: string | null | undefined;
  readonly data: string;
}

const LINE_END = /\r\n|\r|\n/;
const UNSAFE_FIELD = /[\r\n\0]/;

/** One event. Throws RangeError for an id or name that would break the frame (a defect in the caller). */
export function encodeEvent({ id, event, data }: EventFrame): string {
  let frame = '';
  if (id !== undefined) frame += `id: ${checked('id', id)}\n`;
  if (event !== undefined && event !== null) frame += `event: ${checked('event', event)}\n`;
  return `${frame}${encodeBody(data)}\n`;
}

/** The lines of the data alone; an id and an empty line make a frame of it. */
export function encodeBody(data: string): string {
  // One test is cheaper than a split, and JSON as we store it hardly ever has line ends.
  if (!data.includes('\n') && !data.includes('\r')) return `data: ${data}\n`;
  return data
    .split(LINE_END)
    .map((line) => `data: ${line}\n`)
    .join('');
}

/** Moves the client's Last-Event-ID and dispatches nothing. */
export const encodeIdOnly = (id: string): string => `id: ${checked('id', id)}\n\n`;

/** Ignored by clients; keeps proxies from closing an idle connection. */
export const encodeComment = (text: string): string => `: ${checked('comment', text)}\n\n`;

/** How long a client waits before it reconnects, in milliseconds. */
export const encodeRetry = (ms: number): string => `retry: ${Math.max(0, Math.round(ms))}\n\n`;

function checked(field: string, value: string): string {
  if (UNSAFE_FIELD.test(value))
    throw new RangeError(`${field} ${JSON.stringify(value)} would break the frame`);
  return value;
}
