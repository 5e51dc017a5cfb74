// Puts the Origin rules before and around a request: refused and preflight requests go no further, and every other answer,
// whoever made it, carries the headers that let the page read it.
import { judgeOrigin, type CorsRules } from './cors.ts';
import { sessionOf } from './events.ts';
import { forbidden } from './problem.ts';

/** @throws whatever the rules' own function throws; what `answer` throws */
export async function crossOrigin(
  request: Request,
  rules: CorsRules | undefined,
  answer: () => Promise<Response>,
): Promise<Response> {
  const verdict = judgeOrigin(request, rules);
  if (verdict.kind === 'preflight') return new Response(null, { status: 204, headers: verdict.headers });
  const response = verdict.kind === 'refuse' ? forbidden(verdict.detail) : await answer();
  return withHeaders(response, verdict.headers);
}

function withHeaders(response: Response, added: Readonly<Record<string, string>>): Response {
  const entries = Object.entries(added);
  if (entries.length === 0) return response;
  // A hook's own response may be immutable, or be used for many requests; an event stream is known by its object.
  const target = sessionOf(response) ? response : new Response(response.body, response);
  for (const [name, value] of entries) {
    if (name === 'vary') target.headers.append(name, value);
    else target.headers.set(name, value);
  }
  return target;
}
