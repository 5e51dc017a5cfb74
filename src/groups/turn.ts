// Which of several members goes for an event first, so that not all of them ask the database for it. Each member knows
// its place among them; the turn goes round with the offsets, and who is not next waits a little longer for each member
// before it. Pure. Only a hint: whoever asks gets what is there, and somebody asks in any case.

/** Between the turn of one member and the next, in milliseconds: the first has taken the event by then. */
const STEP_MS = 20;
/** Past this nobody waits longer: the members before may have died. */
const MAX_MS = 200;

/** Milliseconds until a member goes for what reaches up to `head`. */
export function turnMs(
  { place, members }: { readonly place: number; readonly members: number },
  head: bigint,
): number {
  if (members <= 1) return 0;
  const first = Number(head % BigInt(members));
  const behind = (place - first + members) % members;
  return behindMs(behind);
}

/** Milliseconds that a member waits for so many before it. */
export const behindMs = (members: number): number => Math.min(members * STEP_MS, MAX_MS);
