// Server-sent events, decoded: text in chunks of any size becomes frames. Unlike stock parsers it keeps frames without
// data, since an id-only frame moves our cursor. Pure but for the text of the frame that is still incomplete; knows
// nothing of streams. Source: WHATWG HTML, 9.2.6 "Interpreting an event stream". Shared with the client.

/** One frame: the fields between two blank lines. A frame of comments alone is no frame. */
export interface Frame {
  /** As given, possibly empty; absent when there was none, or one with a NUL, which counts as none. */
  readonly id?: string;
  readonly event?: string;
  /** Lines joined with a line feed. Absent: the frame dispatches nothing. */
  readonly data?: string;
  /** Milliseconds. */
  readonly retry?: number;
}

export interface FrameParser {
  /** The frames that this chunk completes. @throws RangeError for a frame beyond all bounds */
  feed(chunk: string): Frame[];
}

/** Characters of an incomplete frame that are kept at most; far above the largest event that a server accepts. */
export const MAX_FRAME_CHARS: number = 32 * 1024 * 1024;

type Fields = { -readonly [Name in keyof Frame]: Frame[Name] };

/**
 * A parser for one connection, of text without a byte order mark (decoders of UTF-8 drop it). What is incomplete at the
 * end of the connection is to be dropped, by the standard.
 */
export function createFrameParser(): FrameParser {
  const lineEnd = /\r\n?|\n/g;
  let afterReturn = false; // the chunk before ended in CR: a LF that comes first belongs to it
  let rest = ''; // of the line that is incomplete
  let size = 0;
  let fields: Fields = {};

  const take = (line: string): void => {
    const colon = line.indexOf(':');
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? '' : line.slice(colon + (line[colon + 1] === ' ' ? 2 : 1));
    if (name === 'data') fields.data = fields.data === undefined ? value : `${fields.data}\n${value}`;
    else if (name === 'event') fields.event = value;
    else if (name === 'id' && !value.includes('\0')) fields.id = value;
    else if (name === 'retry' && /^\d+$/.test(value)) fields.retry = Number(value);
  };

  const feed = (chunk: string): Frame[] => {
    const complete: Frame[] = [];
    let from = afterReturn && chunk[0] === '\n' ? 1 : 0;
    if (chunk) afterReturn = chunk.endsWith('\r');
    size += chunk.length;
    lineEnd.lastIndex = from;
    for (let end = lineEnd.exec(chunk); end; end = lineEnd.exec(chunk)) {
      const line = rest + chunk.slice(from, end.index);
      rest = '';
      from = lineEnd.lastIndex;
      if (line) take(line);
      else {
        if (Object.keys(fields)[0]) complete.push(fields);
        fields = {};
        size = 0;
      }
    }
    rest += chunk.slice(from);
    if (size > MAX_FRAME_CHARS) throw new RangeError(`a frame of ${size} characters`);
    return complete;
  };

  return { feed };
}
