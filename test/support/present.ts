// Owns what a client makes of presence frames: the members of a stream, as a program that knows only the protocol keeps
// them. Strict: a frame with an id, or one that does not follow from those before it, is an error.
import type { Frame } from './sse.ts';

interface Member {
  readonly id: string;
  readonly state: unknown;
}
type Told =
  | { readonly stream: string; readonly kind: 'state'; readonly members: readonly Member[] }
  | { readonly stream: string; readonly kind: 'join' | 'update' | 'leave'; readonly member: Member };

/** The states of a stream's members by id; undefined before the first frame that tells them all. */
export function presentIn(frames: readonly Frame[], stream: string): Record<string, unknown> | undefined {
  let members: Map<string, unknown> | undefined;
  for (const { event, id, data = '' } of frames) {
    if (event !== 'sluice:presence') continue;
    if (id !== undefined) throw new Error(`a presence frame has the id ${id}`);
    const told = JSON.parse(data) as Told;
    if (told.stream !== stream) continue;
    if (told.kind === 'state') {
      members = new Map(told.members.map((member) => [member.id, member.state]));
      continue;
    }
    if (!members) throw new Error(`${told.kind} before the state: ${data}`);
    if (members.has(told.member.id) === (told.kind === 'join')) throw new Error(`not so: ${data}`);
    if (told.kind === 'leave') members.delete(told.member.id);
    else members.set(told.member.id, told.member.state);
  }
  return members && Object.fromEntries(members);
}

/** What was told of a stream after its first state: `join ann`, `leave bob` …, and `state` for another one. */
export function changesIn(frames: readonly Frame[], stream: string): string[] {
  const told = frames.flatMap(({ event, data = '' }) =>
    event === 'sluice:presence' ? [JSON.parse(data) as Told] : [],
  );
  return told
    .filter((each) => each.stream === stream)
    .slice(1)
    .map((each) => (each.kind === 'state' ? 'state' : `${each.kind} ${each.member.id}`));
}
