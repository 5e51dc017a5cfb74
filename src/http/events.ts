// GET /v1/events: reads the parameters, asks for a grant, fixes the starting position, and answers with an event
// stream. Everything that can be refused is refused before the first byte.
import { wallClockMs } from '../util/clock.ts';
import { streamNameProblem } from '../protocol/wire.ts';
import { parsePosition, type ParsedPosition } from '../protocol/position.ts';
import type { FrameFormat } from '../tail/entry.ts';
import type { Tails } from '../tail/tails.ts';
import { requestGrant, type Authorize, type Grant } from './authorize.ts';
import { badRequest, toProblem, unauthorized, unavailable } from './problem.ts';
import type { Revocations } from './revocations.ts';
import type { EventSession } from './session.ts';
import { webBody } from './transport.ts';

export interface EventsRequest {
  readonly stream: string;
  readonly after: ParsedPosition;
  readonly format: FrameFormat;
}

export interface EventsContext {
  readonly tails: Tails;
  readonly authorize: Authorize;
  readonly revocations: Revocations | undefined;
  /** Makes the session; undefined when no new ones are taken. */
  createSession(asked: EventsRequest, grant: Grant): EventSession | undefined;
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
  const asked = parseRequest(request);
  if (asked instanceof Response) return asked;
  const askedAt = performance.now();
  const grant = await requestGrant(context.authorize, request, [asked.stream], 'read');
  if (grant instanceof Response) return grant;
  const expiresInMs = grant.expiresAt === undefined ? undefined : grant.expiresAt.getTime() - wallClockMs();
  if (expiresInMs !== undefined && !(expiresInMs > 0)) {
    return unauthorized('the grant has expired; get a new one', true);
  }
  const session = context.createSession(asked, grant);
  if (!session) return unavailable('the server is shutting down; try again');
  if (expiresInMs !== undefined) endAfter(session, expiresInMs);
  const { revocations } = context;
  try {
    await revocations?.ready();
    if (revocations?.watch(session, grant, askedAt) === false) {
      session.end('revoked');
      return unauthorized('what you show was revoked; get a new one', true);
    }
    await session.subscribe(context.tails, asked.after);
  } catch (error) {
    session.end('failed');
    const known = toProblem(error);
    if (known) return known;
    throw error;
  }
  if (session.over) return unavailable('the connection ended before it began; try again');
  const response = new Response(webBody(session), { headers: HEADERS });
  sessions.set(response, session);
  return response;
}

function parseRequest(request: Request): EventsRequest | Response {
  const { searchParams } = new URL(request.url);
  const streams = searchParams.getAll('stream');
  const [stream] = streams;
  if (stream === undefined) return badRequest('name the stream to read: ?stream=…');
  if (streams.length > 1)
    return badRequest(`${streams.length} streams are asked for; one connection reads one stream`);
  const nameProblem = streamNameProblem(stream);
  if (nameProblem !== undefined) return badRequest(nameProblem, 'name_invalid');
  const format = searchParams.get('format') ?? 'envelope';
  if (format !== 'envelope' && format !== 'data') {
    return badRequest(`format is ${JSON.stringify(format.slice(0, 80))}; use envelope or data`);
  }
  const lastEventId = request.headers.get('last-event-id');
  const text =
    (lastEventId === null || lastEventId === '' ? searchParams.get('after') : lastEventId) ?? 'end';
  const after = parsePosition(text);
  if (after) return { stream, after, format };
  const source = text === lastEventId ? 'Last-Event-ID' : 'after';
  const shown = JSON.stringify(text.slice(0, 80));
  return badRequest(
    `${source} is ${shown}, which is not a position; use a cursor as received, an offset, start or end`,
    'cursor_invalid',
  );
}

const MAX_TIMER_MS = 2 ** 31 - 1;

function endAfter(session: EventSession, ms: number): void {
  const timer = setTimeout(() => session.end('expired'), Math.min(ms, MAX_TIMER_MS));
  timer.unref();
  session.onceEnded(() => clearTimeout(timer));
}
