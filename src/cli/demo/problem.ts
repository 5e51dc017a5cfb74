// What the shop answers when a request cannot be served: one error type, one response shape
// (`application/problem+json`, RFC 9457). A detail says the offending value and the remedy; it must never carry
// anything internal, such as a database error's text.

/** The headers of every answer of the shop: nothing cached, nothing sniffed, nothing loaded from elsewhere. */
export const securityHeaders: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'content-security-policy':
    "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
};

/** Thrown while a request is read; `handle` turns it into the response. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly status: number;
  readonly title: string;
  readonly headers: Readonly<Record<string, string>>;

  constructor(status: number, title: string, detail: string, headers: Readonly<Record<string, string>> = {}) {
    super(detail);
    this.status = status;
    this.title = title;
    this.headers = headers;
  }
}

export function problemResponse({ status, title, message, headers }: Problem): Response {
  return new Response(JSON.stringify({ type: 'about:blank', title, status, detail: message }), {
    status,
    headers: { ...securityHeaders, ...headers, 'content-type': 'application/problem+json' },
  });
}
