// Who may talk to `dev`: programs on this machine, and pages that `dev` itself has served. Listening on loopback alone
// does not keep other sites' pages out: they can send requests there from the visitor's own browser (the Origin header
// tells) and can make their own name point there (DNS rebinding; the Host header tells).
import { shown } from '../util/shown.ts';

/** Names and addresses that never leave this machine. */
export const isLoopbackHost = (host: string): boolean =>
  host === 'localhost' || host === '::1' || /^127(?:\.\d{1,3}){3}$/.test(host);

/**
 * A check of requests to a server on `host` and `port`: null for those that may go on, else the response that refuses.
 *
 * @example
 * const refuse = createLoopbackCheck({ host: '127.0.0.1', port: 4080 });
 * const response = refuse(request) ?? (await handler(request));
 */
export function createLoopbackCheck({
  host,
  port,
}: {
  readonly host: string;
  readonly port: number;
}): (request: Request) => Response | null {
  const names = new Set(['127.0.0.1', 'localhost', '[::1]', urlHost(host)]);
  // Browsers leave the default port out.
  const authorities = new Set(
    [...names].flatMap((name) => [`${name}:${port}`, ...(port === 80 ? [name] : [])]),
  );
  const use = `use http://${urlHost(host)}:${port}`;
  return ({ headers }) => {
    const asked = headers.get('host');
    if (asked === null || !authorities.has(asked.toLowerCase())) {
      return refusal(`the Host header is ${asked === null ? 'missing' : shown(asked)}; ${use}`);
    }
    const origin = headers.get('origin');
    if (origin === null) return null;
    const [scheme, authority = ''] = origin.toLowerCase().split('://');
    if (scheme === 'http' && authorities.has(authority)) return null;
    return refusal(
      `the Origin header is ${shown(origin)}, another site; open the page from here, or ${use} without one`,
    );
  };
}

/** A host as it stands in a URL. */
export const urlHost = (host: string): string => (host.includes(':') ? `[${host}]` : host);

const refusal = (what: string): Response =>
  new Response(
    JSON.stringify({
      type: 'about:blank',
      title: 'Forbidden',
      status: 403,
      detail: `sluice dev answers only requests from this machine: ${what}`,
    }),
    {
      status: 403,
      headers: {
        'content-type': 'application/problem+json',
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
      },
    },
  );
