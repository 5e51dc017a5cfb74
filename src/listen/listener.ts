// The one LISTEN connection of a process: any number of channels over it, one session after another, for ever. Whoever
// listens is told of every new session (`gap`) before its first message, because anything sent before may have been
// missed. Owns no stream knowledge.
//
// A session counts once LISTEN is in force for all that is wanted and, where there is reason to doubt it, a
// notification was seen to arrive. What it hears before that is dropped: the gap that follows covers it.
import { nap } from '../util/abort.ts';
import { backoffMs } from '../util/backoff.ts';
import { deferred, type Deferred } from '../util/deferred.ts';
import { report } from '../util/diagnostics.ts';
import { SluiceError } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import { random } from '../util/random.ts';
import { fromDatabase, translated } from '../db/sqlstate.ts';
import type { ChannelHandler } from './hearers.ts';
import { Hub } from './hub.ts';
import { asProblem, isMisconfigured } from './listener-problem.ts';
import { Reception, type ReceptionOptions } from './reception.ts';
import type { Beat } from './session.ts';

const RECONNECT = { initialMs: 500, maxMs: 30_000 };
/** A session that did not live so long is no success: the next one waits, though not for long. */
const STABLE_MS = 1000;
const UNSTABLE = { initialMs: 1000, maxMs: 1000 };

export interface ListenerOptions extends ReceptionOptions {
  readonly logger: LoggerLike;
}

/** `unavailable`: there is a connection, and notifications do not arrive over it. It is tried again and again. */
export type ListenerState = 'connecting' | 'listening' | 'reconnecting' | 'unavailable' | 'closed';

export class Listener {
  readonly #options: ListenerOptions;
  readonly #hub = new Hub();
  readonly #closing = new AbortController();
  /** Who waits for LISTEN to be in force, by channel. */
  readonly #waiting = new Map<string, Deferred<void>>();
  #reception: Reception | undefined;
  #connecting: Promise<void> | undefined;
  #generation = 0;
  #nextGeneration = deferred();
  #acceptedAt = 0;
  #problem: SluiceError | undefined;
  #beat: Beat | undefined;

  constructor(options: ListenerOptions) {
    this.#options = options;
  }

  /** 0 before the first session, 1 in it, one more with each new session. */
  get generation(): number {
    return this.#generation;
  }

  /** Resolves with the next session, and when the listener is closed. */
  get nextGeneration(): Promise<void> {
    return this.#nextGeneration.promise;
  }

  get connected(): boolean {
    return this.#reception !== undefined;
  }

  get state(): ListenerState {
    if (this.#closing.signal.aborted) return 'closed';
    if (this.#reception) return 'listening';
    if (this.#problem?.code === 'listener_unavailable') return 'unavailable';
    return this.#generation === 0 ? 'connecting' : 'reconnecting';
  }

  /** Why there is no session, if the last attempt failed. */
  get problem(): SluiceError | undefined {
    return this.#problem;
  }

  /** What the last heartbeat told. */
  get lastBeat(): Beat | undefined {
    return this.#beat;
  }

  /**
   * Opens the first session. Where notifications do not arrive it resolves all the same: those who listen poll, and it
   * is tried again.
   *
   * @throws SluiceError connection_lost, permission_denied, unsupported_server
   */
  async open(): Promise<void> {
    try {
      await this.#openSession(false);
    } catch (error) {
      const problem = this.#failed(error);
      if (problem.code !== 'listener_unavailable') throw problem;
      this.#connecting ??= this.#connect({ attempt: 1, doubted: true });
    }
  }

  /** Opens the first session in the background, however long it takes; what is in the way is reported. */
  start(): void {
    if (this.#closing.signal.aborted || this.#reception) return;
    this.#connecting ??= this.#connect({ attempt: 0, doubted: false });
  }

  /** Hears a channel until the returned function is called. From when on, `inForce` tells. */
  hear(channel: string, handler: ChannelHandler): () => void {
    this.#hub.add(channel, handler);
    void this.#reception?.settle();
    return () => {
      this.#hub.remove(channel, handler);
      if (!this.#hub.wants(channel)) this.#waiting.delete(channel);
    };
  }

  /**
   * Resolves once LISTEN is in force for a channel that somebody hears, however long a connection takes.
   *
   * @throws SluiceError closed, listener_unavailable; permission_denied, unsupported_server before the first session
   * @throws what the server says when it refuses the channel
   */
  inForce(channel: string): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.reject(closed());
    if (this.#reception && this.#hub.isInForce(channel)) return Promise.resolve();
    if (this.#problem && this.#isFinal(this.#problem)) return Promise.reject(this.#problem);
    let waiting = this.#waiting.get(channel);
    if (!waiting) {
      waiting = deferred();
      waiting.promise.catch(() => {}); // whoever waits may have gone
      this.#waiting.set(channel, waiting);
    }
    return waiting.promise;
  }

  /** Like inForce while there is a session, else at once. Never rejects. */
  async inForceIfConnected(channel: string): Promise<void> {
    if (!this.#reception || this.#hub.isInForce(channel)) return;
    await Promise.race([this.inForce(channel).catch(() => {}), this.#reception.ended]);
  }

  /** Runs one short statement on the listening session, for session locks. Fails when there is no session. */
  async query<Row>(text: string, values: unknown[]): Promise<Row[]> {
    const reception = this.#reception;
    if (!reception) throw new SluiceError('connection_lost', 'the listener is not connected');
    return translated(async () => reception.query<Row>(text, values));
  }

  async close(): Promise<void> {
    const reception = this.#reception;
    this.#reception = undefined;
    const closing = reception?.close(); // politely: the closing below would cut it off
    this.#closing.abort(closed());
    this.#rejectAll(closed());
    this.#nextGeneration.resolve();
    await closing;
    await this.#connecting;
  }

  async #openSession(doubted: boolean): Promise<void> {
    let accepted = false;
    const reception = await Reception.open(this.#hub, this.#options, {
      doubted,
      signal: this.#closing.signal,
      onNotification: (channel, payload, processId) => {
        if (accepted) this.#hub.message(channel, payload, processId);
      },
      onBeat: (beat) => {
        this.#beat = beat;
        report('sluice:listener.beat', () => beat);
      },
      onListening: (channels) => {
        if (accepted) for (const channel of channels) this.#resolve(channel);
      },
      onRefused: (channel, error) => this.#refused(channel, fromDatabase(error)),
    });
    if (this.#closing.signal.aborted) return reception.close();
    accepted = true; // whoever comes from here on finds this session
    this.#accept(reception);
  }

  #accept(reception: Reception): void {
    this.#reception = reception;
    this.#acceptedAt = performance.now();
    this.#problem = undefined;
    this.#generation += 1;
    report('sluice:listener.connected', () => ({
      generation: this.#generation,
      channels: this.#hub.channels.length,
    }));
    this.#hub.gap(this.#generation);
    for (const channel of this.#waiting.keys()) {
      if (this.#hub.isInForce(channel)) this.#resolve(channel);
    }
    void reception.settle(); // what came while the last statement was under way
    void reception.ended.then(() => this.#lost(reception));
    const next = this.#nextGeneration;
    this.#nextGeneration = deferred();
    next.resolve();
  }

  #lost(reception: Reception): void {
    if (this.#reception !== reception) return;
    this.#reception = undefined;
    const { error } = reception;
    const generation = this.#generation;
    this.#options.logger.warn({ error, generation }, 'the listener connection was lost; reconnecting');
    report('sluice:listener.lost', () => ({ generation, error }));
    const doubted = asProblem(error).code === 'listener_unavailable';
    const stable = performance.now() - this.#acceptedAt >= STABLE_MS;
    this.#connecting = this.#connect(
      stable ? { attempt: 0, doubted } : { attempt: 1, doubted, backoff: UNSTABLE },
    );
  }

  /** Attempt 0 is made at once, attempt 1 after the first pause. */
  async #connect({ attempt, doubted, backoff = RECONNECT }: Attempt): Promise<void> {
    const { signal } = this.#closing;
    if (attempt > 0) await pause(backoffMs(attempt - 1, backoff, random()), signal);
    for (let failures = 0, prove = doubted; !signal.aborted; failures += 1) {
      try {
        return await this.#openSession(prove);
      } catch (error) {
        const { code } = this.#failed(error);
        prove ||= code === 'listener_unavailable';
      }
      await pause(backoffMs(failures, RECONNECT, random()), signal);
    }
  }

  #failed(error: unknown): SluiceError {
    const problem = asProblem(error);
    if (this.#closing.signal.aborted) return problem;
    this.#problem = problem;
    this.#options.logger.warn({ error: problem }, 'the listener could not connect; it tries again');
    report('sluice:background.failed', () => ({ where: 'listener', error: problem }));
    if (this.#isFinal(problem)) this.#rejectAll(problem);
    return problem;
  }

  #refused(channel: string, error: unknown): void {
    this.#options.logger.error({ channel, error }, 'the server refused to listen to a channel');
    report('sluice:background.failed', () => ({ where: 'listen', channel, error }));
    this.#waiting.get(channel)?.reject(error);
    this.#waiting.delete(channel);
    this.#hub.refuse(channel, error);
  }

  /** Whether those who wait for a session are told, instead of waiting on. */
  #isFinal(problem: SluiceError): boolean {
    return problem.code === 'listener_unavailable' || (this.#generation === 0 && isMisconfigured(problem));
  }

  #resolve(channel: string): void {
    this.#waiting.get(channel)?.resolve();
    this.#waiting.delete(channel);
  }

  #rejectAll(error: SluiceError): void {
    for (const waiting of this.#waiting.values()) waiting.reject(error);
    this.#waiting.clear();
  }
}

interface Attempt {
  readonly attempt: 0 | 1;
  readonly doubted: boolean;
  readonly backoff?: { readonly initialMs: number; readonly maxMs: number };
}

const closed = (): SluiceError => new SluiceError('closed', 'this listener is closed');

// While there is no session nothing else may keep the process alive: without this an outage of the database would end
// every process that waits for it to come back, and with exit code 0.
const pause = (ms: number, signal: AbortSignal): Promise<void> => nap(ms, signal, true).done;
