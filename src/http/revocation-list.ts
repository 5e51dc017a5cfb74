// What was revoked, as one process knows it, and whether that covers a grant. Pure. Bounded by age: older entries are
// about tokens that have expired since.

export interface Revocation {
  /** All that was issued to them before `issuedBefore`. */
  readonly principal?: string | undefined;
  /** `Grant.id`. */
  readonly tokenId?: string | undefined;
  /** Default: now. */
  readonly issuedBefore?: Date | undefined;
}

/** What is known of a grant. */
export interface GrantAsked {
  readonly id: string | undefined;
  readonly principal: string | null;
  /** Undefined: the hook decided when it was asked, about the state of that moment. */
  readonly issuedAtMs: number | undefined;
  /** When it was asked, on this process's own clock. */
  readonly askedAt: number;
}

interface Entry {
  readonly atMs: number;
  /** Undefined: when it was written. */
  readonly issuedBeforeMs: number;
  /** On this process's own clock; of what was there before, when it may have been written at the latest. */
  readonly heardAt: number;
}

export class RevocationList {
  readonly #keepMs: number;
  // In the order of the stream, so the oldest come first.
  readonly #tokens = new Map<string, Entry>();
  readonly #principals = new Map<string, Entry>();

  constructor(keepMs: number) {
    this.#keepMs = keepMs;
  }

  get size(): number {
    return this.#tokens.size + this.#principals.size;
  }

  /**
   * @param atMs when it was written
   * @param heardAt on the process's own clock: a grant that a hook was asked for by then may not know of it
   */
  add({ principal, tokenId, issuedBefore }: Revocation, atMs: number, heardAt: number): void {
    const entry = { atMs, issuedBeforeMs: issuedBefore?.getTime() ?? atMs, heardAt };
    if (tokenId !== undefined) put(this.#tokens, tokenId, entry);
    if (principal !== undefined) put(this.#principals, principal, entry);
  }

  prune(nowMs: number): void {
    for (const entries of [this.#tokens, this.#principals]) {
      for (const [key, { atMs }] of entries) {
        if (atMs >= nowMs - this.#keepMs) break;
        entries.delete(key);
      }
    }
  }

  covers({ id, principal, issuedAtMs, askedAt }: GrantAsked): boolean {
    if (id !== undefined && this.#tokens.has(id)) return true;
    const entry = principal === null ? undefined : this.#principals.get(principal);
    if (!entry) return false;
    return issuedAtMs === undefined ? entry.heardAt >= askedAt : issuedAtMs <= entry.issuedBeforeMs;
  }
}

/** The later of two about the same, in each respect. */
function put(entries: Map<string, Entry>, key: string, entry: Entry): void {
  const known = entries.get(key);
  entries.delete(key);
  entries.set(key, {
    atMs: entry.atMs,
    issuedBeforeMs: Math.max(entry.issuedBeforeMs, known?.issuedBeforeMs ?? entry.issuedBeforeMs),
    heardAt: Math.max(entry.heardAt, known?.heardAt ?? entry.heardAt),
  });
}

/** The data of an event of the stream, as anybody may have written it; undefined if it revokes nothing. */
export function toRevocation(data: unknown): Revocation | undefined {
  if (typeof data !== 'object' || data === null) return undefined;
  const { principal, tokenId, issuedBefore } = data as Readonly<Record<keyof Revocation, unknown>>;
  const date = typeof issuedBefore === 'string' ? new Date(issuedBefore) : undefined;
  const valid =
    isTextOrAbsent(principal) &&
    isTextOrAbsent(tokenId) &&
    (principal ?? tokenId) !== undefined &&
    (issuedBefore === undefined || (date !== undefined && !Number.isNaN(date.getTime())));
  return valid ? { principal, tokenId, issuedBefore: date } : undefined;
}

const isTextOrAbsent = (value: unknown): value is string | undefined =>
  value === undefined || (typeof value === 'string' && value !== '');
