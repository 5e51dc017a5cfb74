// A user's Standard Schema (https://standardschema.dev, version 1), asked about one payload. Knows what a schema may
// answer and how to say what is wrong; what is then done is for others. A schema that answers at once is answered at
// once: nothing here makes a synchronous one wait.
import type { StandardSchemaV1 } from '@standard-schema/spec';
import { messageOf, type PayloadIssue } from './errors.ts';

export type { StandardSchemaV1 };

export type Verdict =
  | { readonly ok: true; readonly value: unknown }
  | { readonly ok: false; readonly issues: readonly PayloadIssue[] | undefined; readonly cause?: unknown };

/** How many issues a message names, and how much of each. */
const MAX_NAMED = 5;
const MAX_TEXT = 200;

/** @throws TypeError */
export function requireSchema(schema: unknown): asserts schema is StandardSchemaV1 {
  const standard: unknown = isRecord(schema) ? schema['~standard'] : undefined;
  if (!isRecord(standard) || typeof standard['validate'] !== 'function') {
    throw new TypeError(
      'schema is no Standard Schema: it has no "~standard" member with a validate function; give a schema of zod, valibot, arktype or another library that implements standardschema.dev',
    );
  }
  if (standard['version'] !== 1) {
    throw new TypeError(
      `schema implements version ${String(standard['version'])} of Standard Schema; give one of version 1`,
    );
  }
}

/**
 * What the schema says of a payload; a promise only if the schema gave one. A schema that throws has refused the payload.
 *
 * @throws TypeError for an answer that Standard Schema does not allow
 */
export function judge(schema: StandardSchemaV1, data: unknown): Verdict | Promise<Verdict> {
  let answer: unknown;
  try {
    answer = schema['~standard'].validate(data);
  } catch (cause) {
    return { ok: false, issues: undefined, cause };
  }
  return isThenable(answer) ? judgeLater(answer) : toVerdict(answer);
}

async function judgeLater(promise: PromiseLike<unknown>): Promise<Verdict> {
  let answer: unknown;
  try {
    answer = await promise;
  } catch (cause) {
    return { ok: false, issues: undefined, cause };
  }
  return toVerdict(answer);
}

function toVerdict(answer: unknown): Verdict {
  if (!isRecord(answer)) throw notAllowed(answer);
  const { issues } = answer;
  if (issues) {
    if (!Array.isArray(issues)) throw notAllowed(answer);
    return {
      ok: false,
      issues: Object.freeze(Array.from(issues, (issue: unknown) => toIssue(issue, answer))),
    };
  }
  if (!('value' in answer)) throw notAllowed(answer);
  return { ok: true, value: answer['value'] };
}

// Only what the standard names: some libraries hang the payload itself on their issues, and errors get logged.
function toIssue(issue: unknown, answer: object): PayloadIssue {
  if (!isRecord(issue) || typeof issue['message'] !== 'string') throw notAllowed(answer);
  const path: unknown = issue['path'] ?? [];
  if (!Array.isArray(path)) throw notAllowed(answer);
  // Not map: a library's own kind of array would make another of its kind.
  const keys = Array.from(path, (segment: unknown) => {
    const key: unknown = isRecord(segment) ? segment['key'] : segment;
    if (typeof key !== 'string' && typeof key !== 'number' && typeof key !== 'symbol')
      throw notAllowed(answer);
    return key;
  });
  return Object.freeze({ message: issue['message'], path: Object.freeze(keys) });
}

/** Why a payload was refused, in a few words. */
export const refusalText = ({ issues, cause }: Extract<Verdict, { ok: false }>): string =>
  issues === undefined
    ? `the schema threw ${JSON.stringify(shortened(messageOf(cause)))}`
    : issuesText(issues);

function issuesText(issues: readonly PayloadIssue[]): string {
  if (issues.length === 0) return 'the schema named no issue';
  const named = issues.slice(0, MAX_NAMED).map(({ message, path }) => {
    const at = pathText(path);
    return at === '' ? shortened(message) : `${at}: ${shortened(message)}`;
  });
  const more = issues.length - named.length;
  return named.join('; ') + (more > 0 ? `; and ${more} more` : '');
}

/** As one would write it in code: `items[0].name`. */
const pathText = (path: readonly PropertyKey[]): string =>
  shortened(
    path
      .map((key, index) => {
        if (typeof key === 'number') return `[${key}]`;
        if (typeof key === 'symbol') return `[${String(key)}]`;
        if (!/^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(key)) return `[${JSON.stringify(key)}]`;
        return index === 0 ? key : `.${key}`;
      })
      .join(''),
  );

const shortened = (text: string): string => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);

const notAllowed = (answer: unknown): TypeError =>
  new TypeError(
    `the schema answered ${shown(answer)}; a Standard Schema answers { value } or { issues: [{ message, path? }] }`,
  );

const shown = (answer: unknown): string =>
  isRecord(answer) ? `an object with the members ${JSON.stringify(Object.keys(answer))}` : String(answer);

// A schema may be a function with members, as arktype's are, and so may its answer be an array with them.
export const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  (typeof value === 'object' && value !== null) || typeof value === 'function';

export const isThenable = (value: unknown): value is PromiseLike<unknown> =>
  isRecord(value) && typeof value['then'] === 'function';
