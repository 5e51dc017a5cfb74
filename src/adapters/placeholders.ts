// Owns finding the parameters `$1`, `$2` … in a statement, for libraries that want them written another way. Reads SQL
// as PostgreSQL does: what looks like a parameter inside a literal, a quoted name or a comment is none. Pure.

/** `fragments` stand around the parameters, so there is one more of them than of `numbers`. */
export interface SplitStatement {
  readonly fragments: string[];
  /** Which value each parameter takes, from 1; numbers may repeat and come in any order. */
  readonly numbers: number[];
}

// Tried in turn at each place. A quote without its end matches nothing and is passed over; the server will say so.
const TOKEN = new RegExp(
  [
    String.raw`[eE]'(?:[^'\\]|\\[^]|'')*'`,
    String.raw`'(?:[^']|'')*'`,
    String.raw`"(?:[^"]|"")*"`,
    String.raw`\$(?<tag>(?:[A-Za-z_\u0080-\uffff][\w\u0080-\uffff]*)?)\$[^]*?\$\k<tag>\$`,
    String.raw`--[^\n]*`,
    String.raw`(?<comment>/\*)`,
    // A name may hold dollars.
    String.raw`[A-Za-z_\u0080-\uffff][\w$\u0080-\uffff]*`,
    String.raw`\$(?<number>\d+)`,
  ].join('|'),
  'g',
);

/** @throws RangeError for a parameter without a value */
export function splitParameters(text: string, values: readonly unknown[]): SplitStatement {
  const fragments: string[] = [];
  const numbers: number[] = [];
  const tokens = new RegExp(TOKEN);
  let start = 0;
  for (let match = tokens.exec(text); match !== null; match = tokens.exec(text)) {
    const { comment, number } = match.groups as { comment?: string; number?: string };
    if (comment !== undefined) tokens.lastIndex = endOfComment(text, match.index);
    if (number === undefined) continue;
    if (Number(number) < 1 || Number(number) > values.length) {
      throw new RangeError(`the statement has a parameter $${number}, and there are ${values.length} values`);
    }
    fragments.push(text.slice(start, match.index));
    numbers.push(Number(number));
    start = tokens.lastIndex;
  }
  fragments.push(text.slice(start));
  return { fragments, numbers };
}

/** Block comments nest, which no regular expression can follow. */
function endOfComment(text: string, from: number): number {
  const edges = /\/\*|\*\//g;
  edges.lastIndex = from;
  let depth = 0;
  for (let edge = edges.exec(text); edge !== null; edge = edges.exec(text)) {
    depth += edge[0] === '/*' ? 1 : -1;
    if (depth === 0) return edges.lastIndex;
  }
  return text.length;
}
