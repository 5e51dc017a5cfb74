// What a server said when it did not open an event stream: a problem document (RFC 9457), or whatever else answered,
// told in the same shape.

export interface Problem {
  /** Of the answer; 0 when there was none: the network, or something on this side. */
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  /** One of the codes of SluiceError, where the server gave one. */
  readonly code?: string;
}

/** What an answer says is wrong. Never throws. */
export async function problemOf(response: Response): Promise<Problem> {
  const { status, statusText: title, headers } = response;
  const isProblem = headers.get('content-type')?.startsWith('application/problem+json');
  const told = isProblem ? ((await response.json().catch(() => ({}))) as object) : {};
  return { title, detail: `the answer is ${status}, and no event stream`, ...told, status };
}

/** `Retry-After` in milliseconds: seconds or a date. 0 without one that can be read. */
export function retryAfterMs({ headers }: Response, nowMs: number): number {
  const text = headers.get('retry-after') ?? '';
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - nowMs;
  return ms > 0 ? ms : 0;
}
