// Owns schemas whose answers a test decides: what a library would do, or must not do, and when.
import type { StandardSchemaV1 } from 'sluice';
import { deferred, type Deferred } from '../../src/util/deferred.ts';

/** A schema with this validate function, whatever it answers. */
export const schemaOf = <T>(validate: (data: unknown) => unknown): StandardSchemaV1<T> => ({
  '~standard': {
    version: 1,
    vendor: 'test',
    validate: validate as StandardSchemaV1<T>['~standard']['validate'],
  },
});

/** What a schema answers to a payload that does not fit. */
export const refused = (
  message: string,
  ...path: PropertyKey[]
): { issues: readonly StandardSchemaV1.Issue[] } => ({ issues: [{ message, path }] });

export interface Gated {
  readonly schema: StandardSchemaV1<string>;
  /** The answer to one payload, which waits until then. */
  answer(payload: string, answer?: unknown): void;
  /** Resolves when the schema has been asked about a payload. */
  asked(payload: string): Promise<void>;
}

/** An asynchronous schema of strings that answers when told to. A payload that begins with `!` it answers at once. */
export const gatedSchema = (): Gated => {
  const gates = new Map<string, { asked: Deferred<void>; answer: Deferred<unknown> }>();
  const gateOf = (payload: string): { asked: Deferred<void>; answer: Deferred<unknown> } => {
    const gate = gates.get(payload) ?? { asked: deferred(), answer: deferred<unknown>() };
    gates.set(payload, gate);
    return gate;
  };
  return {
    schema: schemaOf((data) => {
      if (String(data).startsWith('!')) return { value: data };
      const gate = gateOf(String(data));
      gate.asked.resolve();
      return gate.answer.promise;
    }),
    answer: (payload, answer = { value: payload }) => gateOf(payload).answer.resolve(answer),
    asked: (payload) => gateOf(payload).asked.promise,
  };
};
