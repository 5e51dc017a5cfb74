// Owns one subscription that a test reads by hand: as much as it asks for and no more, so that the test decides when
// the consumer is slow. Events as `offset data`.
import type { Sluice, StreamEvent } from 'sluice';

export class Following implements AsyncDisposable {
  readonly ready: Promise<void>;
  readonly #events: AsyncIterator<StreamEvent<string>>;

  constructor(sluice: Sluice, stream: string, after: bigint | string) {
    const subscription = sluice.stream<string>(stream).subscribe({ after });
    this.ready = subscription.ready;
    this.#events = subscription[Symbol.asyncIterator]();
  }

  async next(count: number): Promise<string[]> {
    const got: string[] = [];
    while (got.length < count) {
      const { value, done } = await this.#events.next();
      if (done === true) throw new Error('the subscription ended');
      got.push(`${value.offset} ${value.data}`);
    }
    return got;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#events.return?.();
  }
}
