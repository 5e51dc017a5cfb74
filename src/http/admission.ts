// Who may open another connection: caps for the process, for an address (of IPv6, a /64) and for a principal. Those of
// process and address are asked before anything else is done for a request, and what is taken then is given back when it
// ends.
import { networkOf } from './client-address.ts';
import { problem } from './problem.ts';

export interface AdmissionLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
  readonly maxConnectionsPerPrincipal: number;
}

export interface Admitted {
  /** Counts it to a principal too; the response that refuses, if that one has too many. */
  principal(this: void, principal: string | null): Response | undefined;
  /** May be called more than once. */
  release(this: void): void;
}

export class Admission {
  readonly #limits: AdmissionLimits;
  readonly #addresses = new Map<string, number>();
  readonly #principals = new Map<string, number>();
  #connections = 0;
  #refused = 0;

  constructor(limits: AdmissionLimits) {
    this.#limits = limits;
  }

  /** Requests refused so far. */
  get refused(): number {
    return this.#refused;
  }

  /** @param address undefined where the host does not tell it: then no cap holds for it */
  admit(address: string | undefined): Admitted | Response {
    const { maxConnections, maxConnectionsPerAddress, maxConnectionsPerPrincipal } = this.#limits;
    if (this.#connections >= maxConnections) {
      return this.#refuse(503, `the server holds ${maxConnections} connections, which is all it takes`);
    }
    const network = address === undefined ? undefined : networkOf(address);
    if (!take(this.#addresses, network, maxConnectionsPerAddress)) {
      return this.#refuse(
        429,
        `your address holds ${maxConnectionsPerAddress} connections, which is all it may`,
      );
    }
    this.#connections += 1;
    let [released, counted] = [false, undefined as string | undefined];
    return {
      principal: (principal) => {
        if (principal === null || released || counted !== undefined) return undefined;
        if (!take(this.#principals, principal, maxConnectionsPerPrincipal)) {
          return this.#refuse(
            429,
            `you hold ${maxConnectionsPerPrincipal} connections, which is all you may`,
          );
        }
        counted = principal;
        return undefined;
      },
      release: () => {
        if (released) return;
        released = true;
        this.#connections -= 1;
        give(this.#addresses, network);
        give(this.#principals, counted);
      },
    };
  }

  #refuse(status: 429 | 503, reason: string): Response {
    this.#refused += 1;
    return problem({
      status,
      title: status === 429 ? 'Too Many Requests' : 'Service Unavailable',
      detail: `${reason}; close one, or try again later`,
      headers: { 'retry-after': RETRY_AFTER_SECONDS },
    });
  }
}

const RETRY_AFTER_SECONDS = '5';

function take(counts: Map<string, number>, key: string | undefined, most: number): boolean {
  if (key === undefined) return true;
  const count = counts.get(key) ?? 0;
  if (count >= most) return false;
  counts.set(key, count + 1);
  return true;
}

function give(counts: Map<string, number>, key: string | undefined): void {
  if (key === undefined) return;
  const count = (counts.get(key) ?? 1) - 1;
  if (count > 0) counts.set(key, count);
  else counts.delete(key);
}
