// Owns a fault that TCP cannot show: a connection to Postgres on which everything works and no notification arrives,
// because a proxy leaves out NotificationResponse while it is deaf. Speaks to clients without TLS only.
import { MessageProxy, type Target } from './message-proxy.ts';

/** The type byte of NotificationResponse. */
const NOTIFICATION = 'A'.charCodeAt(0);

export class DeafProxy {
  /** While true, notifications are dropped. */
  deaf = false;
  readonly #proxy: MessageProxy;
  #dropped = 0;

  constructor(target: Target) {
    this.#proxy = new MessageProxy(target, () => (message) => {
      if (!this.deaf || message[0] !== NOTIFICATION) return message;
      this.#dropped += 1;
      return undefined;
    });
  }

  get port(): number {
    return this.#proxy.port;
  }

  /** Notifications dropped so far. */
  get dropped(): number {
    return this.#dropped;
  }

  async listen(): Promise<this> {
    await this.#proxy.listen();
    return this;
  }

  [Symbol.dispose](): void {
    this.#proxy[Symbol.dispose]();
  }
}

/** The connection string that leads through a proxy on this machine. */
export function through(proxy: { readonly port: number }, connectionString: string): string {
  const url = new URL(connectionString);
  url.hostname = '127.0.0.1';
  url.port = String(proxy.port);
  return url.href;
}

/** Where a connection string leads. */
export function targetOf(connectionString: string): Target {
  const { hostname, port } = new URL(connectionString);
  return { targetHost: hostname, targetPort: Number(port || 5432) };
}
