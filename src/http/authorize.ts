// The hook that decides who may read what. There is no default: a handler without one cannot be made.

export type Action = 'read' | 'append' | 'manage';

export interface Grant {
  /** Who it is, for logs and limits; null for anybody. */
  readonly principal: string | null;
  /** The connection is closed then. */
  readonly expiresAt?: Date | undefined;
  /** For your audience filters. */
  readonly context?: unknown;
}

/** Decides on a request before anything else is done: a grant, or the response that refuses. */
export type Authorize = (
  request: Request,
  streams: readonly string[],
  action: Action,
) => Promise<Grant | Response>;
