// GET /v1/events: reads the parameters, asks for a grant, fixes the starting position, and answers with an event
// stream. Everything that can be refused is refused before the first byte.
import { waitOrAbort } from '../util/abort.ts';
import { wallClockMs } from '../util/clock.ts';
import { knowsAbsent, NOT_YET, type CursorPosition } from '../protocol/cursor.ts';
import { streamNameProblem } from '../protocol/wire.ts';
import { parsePosition, type ParsedPosition } from '../protocol/position.ts';
import type { FrameFormat } from '../tail/entry.ts';
import type { Tails } from '../tail/tails.ts';
import type { Admitted } from './admission.ts';
import { requestGrant, type Authorize, type Grant } from './authorize.ts';
import type { Ephemerals, EphemeralSink } from '../ephemerals/ephemerals.ts';
import type { BroadcastFilter } from './filters.ts';
import { MAX_TIMER_MS } from './handler-options.ts';
import type { Presence } from '../presence/presence.ts';
import { memberOf, parsePresence } from './presence-request.ts';
import { badRequest, left, toProblem, unauthorized, unavailable } from './problem.ts';
import type { Revocations } from './revocations.ts';
import type { EventSession } from './session.ts';
import { webBody } from './transport.ts';

export interface EventsRequest {
  readonly streams: readonly string[];
  /** The client's last id, which says how far it has got; undefined on a first connection. */
  readonly lastEventId: ParsedPosition | undefined;
  readonly after: ParsedPosition | undefined;
  readonly format: FrameFormat;
  /** What the client says of itself to the others; undefined if it does not take part. */
  readonly presence: { readonly state: string } | undefined;
}

export interface EventsContext {
  readonly tails: Tails;
  readonly ephemerals: Ephemerals;
  readonly broadcastFilter: BroadcastFilter;
  readonly presence: Presence;
  readonly authorize: Authorize;
  readonly revocations: Revocations | undefined;
  readonly maxStreams: number;
  /** Asked before anything is done for a request. */
  admit(this: void): Admitted | Response;
  /** Makes the session; undefined when no new ones are taken. */
  createSession(this: void, asked: EventsRequest, grant: Grant): EventSession | undefined;
}

const HEADERS = {
  'content-type': 'text/event-stream; charset=utf-8',
  'cache-control': 'no-cache, no-transform', // no-transform: compressing middleware would hold events back
  'x-accel-buffering': 'no',
  'x-content-type-options': 'nosniff',
};

const sessions = new WeakMap<Response, EventSession>();

/** The session behind a response of ours that nobody has read yet: lets a Node host write to its socket directly. */
export const sessionOf = (response: Response): EventSession | undefined => sessions.get(response);

export async function handleEvents(request: Request, context: EventsContext): Promise<Response> {
  const admitted = context.admit();
  if (admitted instanceof Response) return admitted;
  let session: EventSession | undefined;
  try {
    const opened = await openSession(request, context, admitted);
    if (opened instanceof Response) return opened;
    session = opened;
  } catch (error) {
    if (request.signal.aborted) return left();
    throw error;
  } finally {
    if (!session) admitted.release();
  }
  const response = new Response(webBody(session), { headers: HEADERS });
  sessions.set(response, session);
  return response;
}

async function openSession(
  request: Request,
  context: EventsContext,
  admitted: Admitted,
): Promise<EventSession | Response> {
  const asked = parseRequest(request, context.maxStreams);
  if (asked instanceof Response) return asked;
  const askedAt = performance.now();
  const { signal } = request;
  const hook = requestGrant(context.authorize, request, asked.streams, 'read');
  const grant = await waitOrAbort(hook, signal);
  if (grant instanceof Response) return grant;
  const expiresInMs = grant.expiresAt === undefined ? undefined : grant.expiresAt.getTime() - wallClockMs();
  if (expiresInMs !== undefined && !(expiresInMs > 0)) {
    return unauthorized('the grant has expired; get a new one', true);
  }
  const attending = asked.presence && memberOf(asked.presence, grant.presence);
  if (attending instanceof Response) return attending;
  const tooMany = admitted.principal(grant.principal);
  if (tooMany) return tooMany;
  const session = context.createSession(asked, grant);
  if (!session) return unavailable('the server is shutting down; try again');
  session.onceEnded(admitted.release);
  if (expiresInMs !== undefined) endAfter(session, expiresInMs);
  // Whoever leaves before the answer gives back at once what is held for it, and lets go of what waits its turn.
  const leave = (): void => session.closed();
  signal.addEventListener('abort', leave, { once: true });
  try {
    const refused = await waitOrAbort(begin(session, { asked, grant, askedAt, signal }, context), signal);
    if (refused) return refused;
  } catch (error) {
    session.end('failed');
    const known = toProblem(error);
    if (known) return known;
    throw error;
  } finally {
    signal.removeEventListener('abort', leave);
  }
  if (attending && !session.over) session.attend(context.presence, attending.member);
  return session.over ? unavailable('the connection ended before it began; try again') : session;
}

interface Beginning {
  readonly asked: EventsRequest;
  readonly grant: Grant;
  readonly askedAt: number;
  readonly signal: AbortSignal;
}

/** Fixes where the session starts, or refuses it. */
async function begin(
  session: EventSession,
  { asked, grant, askedAt, signal }: Beginning,
  { ephemerals, broadcastFilter, revocations, tails }: EventsContext,
): Promise<Response | undefined> {
  const sink: EphemeralSink = {
    broadcast: (messages) => {
      const frames = broadcastFilter(messages, grant, session.id);
      if (frames) session.ephemeral(frames);
    },
  };
  session.onceEnded(ephemerals.join(asked.streams, sink));
  await Promise.all([revocations?.ready(), ephemerals.ready()]);
  if (revocations?.watch(session, grant, askedAt) === false) {
    session.end('revoked');
    return unauthorized('what you show was revoked; get a new one', true);
  }
  await session.subscribe(tails, await startsFor(tails, asked, signal), signal);
  return undefined;
}

// A stream that the last id does not know starts at `after`; without that, at the end.
async function startsFor(
  tails: Tails,
  { streams, lastEventId, after = END }: EventsRequest,
  signal: AbortSignal,
): Promise<ReadonlyMap<string, ParsedPosition>> {
  const first = lastEventId ?? after;
  if (first.kind !== 'cursor') return new Map(streams.map((stream) => [stream, first]));
  const known = after.kind === 'cursor' ? both(first.positions, after.positions) : first.positions;
  const positions = known.filter((position) => position !== NOT_YET);
  // A page was rendered before one of them existed: all that came into it since is news.
  if (knowsAbsent(known)) return tails.starts(streams, { positions, otherwise: START }, signal);
  const otherwise = after.kind === 'cursor' ? END : after;
  return tails.starts(streams, { positions, otherwise }, signal);
}

/** All of the first, and of the others those of streams that it does not know. */
const both = (
  positions: readonly CursorPosition[],
  others: readonly CursorPosition[],
): readonly CursorPosition[] => {
  const known = new Set(positions.map(({ incarnation }) => incarnation));
  return [...positions, ...others.filter(({ incarnation }) => !known.has(incarnation))];
};

const START: ParsedPosition = { kind: 'start' };
const END: ParsedPosition = { kind: 'end' };

function parseRequest(request: Request, maxStreams: number): EventsRequest | Response {
  const { searchParams } = new URL(request.url);
  const streams = [...new Set(searchParams.getAll('stream'))];
  if (streams.length === 0) return badRequest('name the streams to read: ?stream=…');
  if (streams.length > maxStreams) {
    return badRequest(
      `${streams.length} streams are asked for; one connection reads ${maxStreams}: open another one`,
    );
  }
  const nameProblem = streams.map((name) => streamNameProblem(name)).find((each) => each !== undefined);
  if (nameProblem !== undefined) return badRequest(nameProblem, 'name_invalid');
  const format = searchParams.get('format') ?? 'envelope';
  if (format !== 'envelope' && format !== 'data') {
    return badRequest(`format is ${JSON.stringify(format.slice(0, 80))}; use envelope or data`);
  }
  if (format === 'data' && streams.length > 1) {
    return badRequest('format=data does not say which stream an event is of; use it with one stream');
  }
  const presence = parsePresence(searchParams.get('presence'));
  if (presence instanceof Response) return presence;
  const lastEventId = positionOf('Last-Event-ID', request.headers.get('last-event-id'));
  if (lastEventId instanceof Response) return lastEventId;
  const after = positionOf('after', searchParams.get('after'));
  // What beats it is what counts: a stale parameter beside a good id is no reason to refuse.
  if (after instanceof Response && !lastEventId) return after;
  return { streams, lastEventId, after: after instanceof Response ? undefined : after, format, presence };
}

function positionOf(source: string, text: string | null): ParsedPosition | Response | undefined {
  if (text === null || (text === '' && source === 'Last-Event-ID')) return undefined;
  const position = parsePosition(text);
  if (position) return position;
  const shown = JSON.stringify(text.slice(0, 80));
  return badRequest(
    `${source} is ${shown}, which is not a position; use a cursor as received, an offset, start or end`,
    'cursor_invalid',
  );
}

function endAfter(session: EventSession, ms: number): void {
  const timer = setTimeout(() => session.end('expired'), Math.min(ms, MAX_TIMER_MS));
  timer.unref();
  session.onceEnded(() => clearTimeout(timer));
}
