// The shop's own routes, as the page calls them. It must never retry by itself: placing an order is not idempotent,
// and the page's numbers are only evidence if every request is one the visitor asked for.

export interface ShopState {
  readonly stream: string;
  /** Committed orders whose time has come. */
  readonly orders: number;
  /** Committed orders whose events are not due yet. */
  readonly later: number;
  readonly head: string;
  readonly oldest: string;
  /** Start after this offset to see the last few events first. */
  readonly cursorHint: string;
}

export interface NewOrder {
  readonly item: string;
  readonly quantity: number;
}

export interface BurstResult {
  readonly committed: number;
  readonly rolledBack: number;
}

/** The page asks again and again: one that is not answered must not hold up the next. */
const answerWithinMs = 10_000;

export function readState(): Promise<ShopState> {
  return call<ShopState>('/demo/state', { cache: 'no-store', signal: AbortSignal.timeout(answerWithinMs) });
}

export function placeOrder(order: NewOrder): Promise<{ id: number }> {
  return post('/demo/orders', order);
}

export function placeForLater(order: NewOrder): Promise<{ id: number; delayMs: number }> {
  return post('/demo/later', order);
}

export function rollBackOrder(order: NewOrder): Promise<{ rolledBack: true }> {
  return post('/demo/rollback', order);
}

export function burst(count: number): Promise<BurstResult> {
  return post('/demo/burst', { count });
}

function post<T>(path: string, body: unknown): Promise<T> {
  return call(path, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
}

/** Rejects with an Error whose message can be shown as it is. */
async function call<T>(path: string, init: RequestInit): Promise<T> {
  let response: Response;
  try {
    response = await fetch(path, init);
  } catch (error) {
    throw new Error('The server did not answer. If it is restarting, try again in a moment.', {
      cause: error,
    });
  }
  if (!response.ok) throw new Error(await problemOf(response));
  return (await response.json()) as T;
}

async function problemOf(response: Response): Promise<string> {
  const fallback = `The server answered ${response.status}. Its log says why.`;
  try {
    const { detail } = (await response.json()) as { detail?: unknown };
    return typeof detail === 'string' ? detail : fallback;
  } catch {
    return fallback;
  }
}
