// Owns writing arrays of text the way PostgreSQL reads them from text. In the caller's transaction the driver is the
// caller's, and not every one can send an array: a text with a cast in the statement goes through all of them. Pure.

/** `{"a","b",NULL}`, for a parameter that the statement casts with `::text::text[]`. */
export const textArrayLiteral = (values: readonly (string | null)[]): string =>
  `{${values.map((value) => (value === null ? 'NULL' : quoted(value))).join(',')}}`;

const quoted = (value: string): string => `"${value.replace(/["\\]/g, String.raw`\$&`)}"`;
