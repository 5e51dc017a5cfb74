// Owns what one subscription of a bus was told, in order, and the judgement of it: numbers are sent in order, and none
// may be missing without a marker at its place (I8). Also a consumer as users are told to write one, which reads again
// at every marker and so must end complete.
import type { Pool } from 'pg';
import type { Notification, NotifySubscription } from 'sluice';
import { until } from './diagnostics.ts';
import type { Queries } from './log-sql.ts';

/** Commits them together: they arrive in one read, or in few. */
export async function notifyAll(on: Queries, channel: string, payloads: readonly string[]): Promise<void> {
  await on.query('select pg_notify($1, p) from unnest($2::text[]) with ordinality u (p, n) order by n', [
    channel,
    payloads,
  ]);
}

export class Notices {
  readonly all: Notification[] = [];
  readonly ended: Promise<void>;
  over = false;
  readonly #subscription: NotifySubscription;

  constructor(subscription: NotifySubscription, onNotice: (notice: Notification) => void = () => {}) {
    this.#subscription = subscription;
    this.ended = this.#read(onNotice);
  }

  get payloads(): string[] {
    return this.all.flatMap((notice) => (notice.kind === 'message' ? [notice.payload] : []));
  }

  get gaps(): number[] {
    return this.all.flatMap((notice) => (notice.kind === 'gap' ? [notice.generation] : []));
  }

  /** Numbers from 1 to `count` that are missing where nothing says so; also any that came twice or out of order. */
  unmarked(count: number): number[] {
    const wrong: number[] = [];
    let [next, marked] = [1, false];
    for (const notice of this.all) {
      if (notice.kind !== 'message') {
        marked = true;
        continue;
      }
      const number = Number(notice.payload);
      if (number < next) wrong.push(number);
      if (!marked) for (let missing = next; missing < number; missing += 1) wrong.push(missing);
      next = number + 1;
      marked = false;
    }
    if (!marked) for (let missing = next; missing <= count; missing += 1) wrong.push(missing);
    return wrong;
  }

  async close(): Promise<void> {
    await this.#subscription.close();
    await this.ended;
  }

  async #read(onNotice: (notice: Notification) => void): Promise<void> {
    for await (const notice of this.#subscription) {
      this.all.push(notice);
      onNotice(notice);
    }
    this.over = true;
  }
}

/** A table of numbers, and a channel on which each is told when it is committed. */
export class Numbers {
  readonly #pool: Pool;
  readonly #name: string;
  #last = 0;

  private constructor(pool: Pool, name: string) {
    this.#pool = pool;
    this.#name = name;
  }

  static async create(pool: Pool, name: string): Promise<Numbers> {
    await pool.query(`create table if not exists numbers (name text, n integer, primary key (name, n))`);
    return new Numbers(pool, name);
  }

  get last(): number {
    return this.#last;
  }

  /** Commits the next `count` numbers in one transaction, with a notification each. */
  async send(count: number): Promise<void> {
    const from = this.#last + 1;
    await this.#pool.query(
      `with written as (insert into numbers select $1, n from generate_series($2::integer, $3) n returning n)
       select pg_notify($1, n::text) from written order by n`,
      [this.#name, from, from + count - 1],
    );
    this.#last += count;
  }

  async stored(): Promise<number[]> {
    const { rows } = await this.#pool.query<{ n: number }>('select n from numbers where name = $1', [
      this.#name,
    ]);
    return rows.map(({ n }) => n);
  }
}

/** Knows every number it was told, and reads all that are stored at every marker. */
export class Keeper {
  readonly known = new Set<number>();
  readonly notices: Notices;
  readonly #numbers: Numbers;
  #reading: Promise<void> | undefined;
  #again = false;

  constructor(subscription: NotifySubscription, numbers: Numbers) {
    this.#numbers = numbers;
    this.notices = new Notices(subscription, (notice) => {
      if (notice.kind === 'message') this.known.add(Number(notice.payload));
      else if (this.#reading) this.#again = true;
      else this.#reading = this.#readAgain();
    });
  }

  get complete(): boolean {
    return this.known.size === this.#numbers.last;
  }

  /**
   * Waits until nothing that was sent is still to come. Any one notification may have a gap in its place, so numbers are
   * sent until one of them is heard; all before it have been heard by then, or are read again.
   */
  async settled(): Promise<void> {
    const sent = this.#numbers.last;
    await until(async () => {
      await this.#numbers.send(1);
      return Number(this.notices.payloads.at(-1)) > sent;
    });
    // The last of them may be known by a read, and still be on its way. What is missing is told by whoever asks.
    await until(() => this.complete && this.notices.unmarked(this.#numbers.last).length === 0).catch(
      () => {},
    );
  }

  async #readAgain(): Promise<void> {
    do {
      this.#again = false;
      try {
        for (const number of await this.#numbers.stored()) this.known.add(number);
      } catch {
        this.#again = !this.notices.over; // what ended the session may end this reading too
      }
    } while (this.#again);
    this.#reading = undefined;
  }
}
