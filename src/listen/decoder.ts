// What a schema makes of a channel's payloads. One that does not fit is counted and reported, and nobody is given it.
import { report } from '../util/diagnostics.ts';
import { messageOf } from '../util/errors.ts';
import type { LoggerLike } from '../util/logger.ts';
import type { Seldom } from '../util/seldom.ts';
import { judge, refusalText, type StandardSchemaV1, type Verdict } from '../util/standard-schema.ts';
import type { Message } from './inbox.ts';
import type { NotifyMessage, Tally } from './notification.ts';

export interface DecoderOptions {
  readonly channel: string;
  readonly schema: StandardSchemaV1;
  readonly tally: Tally;
  readonly logger: LoggerLike;
  /** Which of those that do not fit the log is told of. */
  readonly seldom: Seldom<string>;
}

export class Decoder<T> {
  readonly #options: DecoderOptions;

  constructor(options: DecoderOptions) {
    this.#options = options;
  }

  /** Waits for the schema if it takes its time. Undefined: the payload does not fit. */
  async decode(message: Message): Promise<NotifyMessage<T> | undefined> {
    try {
      return this.#settle(message, await this.#judge(message));
    } catch (error) {
      return this.#skip(message, messageOf(error));
    }
  }

  /** Waits for nothing: what a schema does not answer at once does not fit either. */
  decodeNow(message: Message): NotifyMessage<T> | undefined {
    try {
      const verdict = this.#judge(message);
      if (!(verdict instanceof Promise)) return this.#settle(message, verdict);
      verdict.catch(() => {});
      return this.#skip(
        message,
        'the schema is asynchronous, and a handler waits for nothing; use subscribe',
      );
    } catch (error) {
      return this.#skip(message, messageOf(error));
    }
  }

  #judge({ payload }: Message): Verdict | Promise<Verdict> {
    return judge(this.#options.schema, JSON.parse(payload));
  }

  #settle(message: Message, verdict: Verdict): NotifyMessage<T> | undefined {
    if (verdict.ok) return { ...message, data: verdict.value as T };
    return this.#skip(message, refusalText(verdict));
  }

  #skip({ payload, processId }: Message, reason: string): undefined {
    const { tally, logger, seldom, channel } = this.#options;
    tally.malformed += 1;
    const details = { channel, processId, reason, bytes: payload.length };
    report('sluice:bus.malformed', () => details);
    const skipped = seldom.count(channel, performance.now());
    if (skipped > 0) {
      const message = 'a notification was skipped: its payload does not fit the schema';
      logger.warn({ ...details, skipped }, message);
    }
    return undefined;
  }
}
