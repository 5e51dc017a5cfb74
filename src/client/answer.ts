// What an answer that is no event stream means: whether asking again helps, and what it says is wrong. Loaded when there
// is one, which is rare.
import type { LineInput, Problem } from './state.ts';

/** Which another token may change, or another stream of that name. */
const REFUSALS = [401, 403, 404];
/** Client errors that a later try may not meet. */
const PASSING = [408, 425, 429];

/** Reads an answer. Never rejects. */
export async function readAnswer(response: Response, nowMs: number): Promise<LineInput> {
  const problem = await problemOf(response);
  const { status } = problem;
  const waitMs = retryAfterMs(response, nowMs);
  if (REFUSALS.includes(status)) return { kind: 'refused', problem, waitMs };
  if (status < 400 || status >= 500 || PASSING.includes(status)) return { kind: 'lost', problem, waitMs };
  return { kind: 'rejected', problem };
}

/** A problem document (RFC 9457), or whatever else answered in the same shape. */
async function problemOf(response: Response): Promise<Problem> {
  const { status, statusText, headers } = response;
  const isProblem = headers.get('content-type')?.startsWith('application/problem+json');
  const told = isProblem ? ((await response.json().catch(() => ({}))) as Record<string, unknown>) : {};
  const { title, detail, code } = told;
  return {
    status,
    title: typeof title === 'string' ? title : statusText,
    detail: typeof detail === 'string' ? detail : `the answer is ${status}, and no event stream`,
    ...(typeof code === 'string' && { code }),
  };
}

/** `Retry-After` in milliseconds: seconds or a date. 0 without one that can be read. */
function retryAfterMs({ headers }: Response, nowMs: number): number {
  const text = headers.get('retry-after') ?? '';
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return ms > 0 ? ms : 0;
}
