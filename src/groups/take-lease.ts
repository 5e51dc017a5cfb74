// Claims a lease for a user who handles its events without a handler.
import { randomUUID } from 'node:crypto';
import type { Decode } from '../log/decode.ts';
import { MAX_LEASE_BYTES } from './claimer.ts';
import { decodeEach } from './decode-each.ts';
import type { Groups } from './groups.ts';
import { LeaseHandle, type Lease } from './lease.ts';
import { reportClaim, reportDead } from './reports.ts';
import { claimEvents, settleLease, type FailurePolicy, type GroupRef } from './store.ts';

export interface TakeOptions<T> {
  readonly groups: Groups;
  readonly group: GroupRef;
  readonly decode: Decode<T>;
  readonly policy: FailurePolicy;
  readonly max: number;
  readonly leaseMs: number;
  readonly signal: AbortSignal | undefined;
}

/** Null: nothing is due. @throws SluiceError stream_not_found */
export async function takeLease<T>(options: TakeOptions<T>): Promise<Lease<T> | null> {
  const { groups, group, decode, policy, max, leaseMs, signal } = options;
  const { database } = groups;
  const token = randomUUID();
  const claimed = await claimEvents(database, group, {
    token,
    member: token, // of a keyed group, nobody else gets its partitions until it is over
    max,
    maxBytes: MAX_LEASE_BYTES,
    leaseMs,
    maxAttempts: policy.maxAttempts,
    since: undefined,
    perSecond: undefined,
    members: 1,
    blocked: [],
    done: [],
  });
  reportClaim(groups, group, claimed);
  const { events: handed, expiresAt } = claimed;
  if (handed.length === 0) return null;
  const onReturned = (): void => groups.look(group.id);
  const { events, failed } = await decodeEach(decode, group.stream, handed);
  const onDead = (count: number): void => {
    if (count > 0) reportDead(groups, group, count);
  };
  if (failed.length > 0)
    onDead((await settleLease(database, { token, settlement: { failed }, policy })).dead);
  if (signal?.aborted === true) {
    // Nobody waits for it any more: what it has goes back, uncounted.
    if (events.length > 0) {
      const returned = events.map(({ offset }) => offset);
      await settleLease(database, { token, settlement: { returned }, policy });
    }
    onReturned();
    return null;
  }
  if (events.length === 0) return takeLease(options);
  const attempts = new Map(handed.map(({ record, attempt }) => [record.offset, attempt]));
  return new LeaseHandle({ database, token, policy, events, attempts, expiresAt, onReturned, onDead });
}
