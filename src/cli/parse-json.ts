// JSON as events are given on the command line. JavaScript reads every number as a double: an id of twenty digits would be
// stored as another one, and 1e400 as null. No number may change in silence, so one that would is refused, by its value,
// however it is written. A whole number must be stored as the same one. A fraction may be rounded, as it is everywhere
// (0.1 is), but none that is not zero may become zero.

/** Only a text with one of these can hold such a number: a double keeps fifteen digits. Most hold none, and cost one search. */
const SUSPICIOUS = /[\d.]{16}|\d[eE][+-]?\d{3}/;
const STRING_OR_NUMBER = /"(?:[^"\\]+|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;
const PARTS = /^(-?)(\d+)(?:\.(\d+))?(?:e(.+))?$/i;

/** @throws SyntaxError for what is not JSON; RangeError for a number that would become another one, or none */
export function parseJson(text: string): unknown {
  const value: unknown = JSON.parse(text);
  if (SUSPICIOUS.test(text)) text.match(STRING_OR_NUMBER)?.forEach(checkNumber);
  return value;
}

function checkNumber(token: string): void {
  if (token.startsWith('"')) return;
  const number = Number(token);
  if (Number.isFinite(number)) {
    const [given, kept] = [normalised(token), normalised(String(number))];
    const isFraction = given.exponent < 0;
    if (isFraction ? number !== 0 : given.digits === kept.digits && given.exponent === kept.exponent) return;
  }
  const shown = token.length > 60 ? `${token.slice(0, 60)}…` : token;
  throw new RangeError(
    `has the number ${shown}, which would be kept as ${JSON.stringify(number)}; give it as a string`,
  );
}

/** Equal for equal numbers: the digits (with the sign) without zeros around them, times a power of ten. Zero is 0 times 1. */
function normalised(token: string): { readonly digits: string; readonly exponent: number } {
  const [, sign = '', whole = '', fraction = '', power = '0'] = PARTS.exec(token) ?? [];
  const digits = `${whole}${fraction}`.replace(/^0+/, '');
  if (digits === '') return { digits: '0', exponent: 0 };
  let end = digits.length;
  while (digits[end - 1] === '0') end -= 1;
  return {
    digits: sign + digits.slice(0, end),
    exponent: Number(power) - fraction.length + digits.length - end,
  };
}
