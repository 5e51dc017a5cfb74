// Names with a prefix as a range of names: in collation "C" they stand together, in order of their bytes, which for
// UTF-8 is the order of their code points. Pure.

const MAX_CODE_POINT = 0x10ffff;

/** The least text above all that start with the prefix; undefined when there is none. */
export function endOfPrefix(prefix: string): string | undefined {
  const points = Array.from(prefix, (character) => character.codePointAt(0) ?? 0);
  while (points.at(-1) === MAX_CODE_POINT) points.pop(); // nothing comes after it, so what stands before it goes up
  const last = points.pop();
  if (last === undefined) return undefined;
  const next = last === 0xd7ff ? 0xe000 : last + 1; // surrogates are no characters of their own
  return String.fromCodePoint(...points, next);
}
