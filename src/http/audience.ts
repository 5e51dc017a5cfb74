// Who sees an event: whom its label means, whom it leaves out, and what the grant itself lets through. Pure, and closed
// when in doubt: what is not known, raises, or answers anything but true hides the event, and says why.
import type { StreamEvent } from '../log/event.ts';
import { labelProblem } from '../log/audience.ts';

/** Decides by the grant's context whether a connection belongs to an audience. Only `true` lets it in; no promise does. */
export type Audience = (context: unknown) => boolean;

export type Audiences = ReadonlyMap<string, Audience>;

/** The part of a grant that decides on events. */
export interface Viewer {
  readonly context?: unknown;
  readonly visible?: ((event: StreamEvent) => boolean) | undefined;
}

/** `fault`: it is hidden for a defect, and not because anybody decided so. */
export type Verdict = { readonly visible: boolean; readonly fault?: unknown };

const VISIBLE: Verdict = { visible: true };
const HIDDEN: Verdict = { visible: false };

/** A copy, without what an object inherits. @throws TypeError for an audience that could never let anybody in */
export function audiencesFrom(given: Readonly<Record<string, Audience>>): Audiences {
  if (typeof given !== 'object' || given === null) {
    throw new TypeError('audiences must be an object of functions by label');
  }
  const audiences = new Map(Object.entries(given));
  for (const [label, audience] of audiences) {
    const problem = labelProblem(label);
    if (problem !== undefined) throw new TypeError(`audiences: ${problem}`);
    const shown = JSON.stringify(label);
    if (typeof audience !== 'function') throw new TypeError(`audience ${shown} must be a function`);
    if (isAsync(audience)) {
      throw new TypeError(
        `audience ${shown} is an async function, and an event cannot wait for its answer: put what it needs into the grant's context`,
      );
    }
  }
  return audiences;
}

export const isAsync = (value: unknown): boolean =>
  Object.prototype.toString.call(value) === '[object AsyncFunction]';

/** Whether who has this context belongs to the audience of that label. */
export function judgeLabel(audiences: Audiences, label: string, context: unknown): Verdict {
  const audience = audiences.get(label);
  if (audience) return ask(() => audience(context));
  return hiddenFor(
    new Error(`the handler has no audience ${JSON.stringify(label)}; add it to its audiences`),
  );
}

/** Whether the grant lets the event through. */
export const judgeEvent = ({ visible }: Viewer, event: () => StreamEvent): Verdict =>
  visible ? ask(() => visible(event())) : VISIBLE;

function ask(question: () => unknown): Verdict {
  try {
    const answer = question();
    if (typeof answer === 'boolean') return answer ? VISIBLE : HIDDEN;
    // A promise: its rejection would end the process, and all there is to say about it is said here.
    if (typeof answer === 'object') Promise.resolve(answer).catch(() => {});
    const kind = answer instanceof Promise ? 'a promise' : typeof answer;
    return hiddenFor(new TypeError(`it answered ${kind}; only true and false are answers`));
  } catch (error) {
    return hiddenFor(error ?? new Error('it threw nothing'));
  }
}

const hiddenFor = (fault: unknown): Verdict => ({ visible: false, fault });
