// JSON as events are given on the command line. JavaScript reads every number as a double: an id of twenty digits would be
// stored as another one, and 1e400 as null. Nothing may change in silence, so such a number is refused.

/** Only a text with one of these can hold such a number; most hold none, and cost one search. */
const SUSPICIOUS = /\d{16}|\d[eE]\+?\d{2}/;
const STRING_OR_NUMBER = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** @throws SyntaxError for what is not JSON; RangeError for a whole number that would become another one, or none */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  if (SUSPICIOUS.test(text)) text.match(STRING_OR_NUMBER)?.forEach(checkNumber);
  return value;
}

function checkNumber(token: string): void {
  if (token.startsWith('"')) return;
  const number = Number(token);
  // A fraction is rounded by everybody; a whole number is the same if JavaScript would write it so, or holds it exactly.
  const isFraction = !/^-?\d+$/.test(token);
  const isFinite = Number.isFinite(number);
  if (isFinite && (isFraction || String(number) === token || BigInt(token) === BigInt(number))) return;
  const shown = token.length > 60 ? `${token.slice(0, 60)}…` : token;
  throw new RangeError(`has the number ${shown}, which would be kept as ${number}; give it as a string`);
}
