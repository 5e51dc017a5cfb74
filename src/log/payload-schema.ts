// A schema of payloads, not of the database: what a stream's user may say of its payloads, and what a payload that does
// not fit is refused with.
import { SluiceError, type SluiceErrorOptions } from '../util/errors.ts';
import { shown } from '../util/shown.ts';
import {
  isRecord,
  refusalText,
  requireSchema,
  type StandardSchemaV1,
  type Verdict,
} from '../util/standard-schema.ts';

/** The types of a stream's payloads, and whether they are checked. */
export interface PayloadOptions<In = unknown, Out = In> {
  /** What is appended and published must fit it; it is stored as given. Any Standard Schema: zod, valibot, arktype … */
  readonly schema?: StandardSchemaV1<In, Out> | undefined;
  /**
   * Whether `read` and `subscribe` give what the schema makes of each stored event (its defaults and transforms),
   * and throw `payload_invalid` for one that does not fit. Default false: events are given as stored.
   */
  readonly validateOnRead?: boolean | undefined;
}

/** @throws TypeError */
export function checkPayloadOptions(options: unknown): asserts options is PayloadOptions {
  if (!isRecord(options)) {
    throw new TypeError(`the options of a stream are ${shown(options)}; give { schema?, validateOnRead? }`);
  }
  const { schema, validateOnRead } = options;
  if (schema !== undefined) requireSchema(schema);
  if (validateOnRead !== undefined && typeof validateOnRead !== 'boolean') {
    throw new TypeError(`validateOnRead is a ${typeof validateOnRead}; give true or false`);
  }
  if (validateOnRead === true && schema === undefined) {
    throw new TypeError('validateOnRead needs a schema to validate with; give one, or leave it out');
  }
}

/** The error for a payload the schema refused. `what` begins its message, `remedy` ends it. */
export function refusal(
  verdict: Extract<Verdict, { ok: false }>,
  { what, remedy, ...place }: { what: string; remedy: string } & Omit<SluiceErrorOptions, 'cause' | 'issues'>,
): SluiceError {
  const { issues, cause } = verdict;
  return new SluiceError('payload_invalid', `${what}: ${refusalText(verdict)}; ${remedy}`, {
    ...place,
    issues,
    cause,
  });
}
