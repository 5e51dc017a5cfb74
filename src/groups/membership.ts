// Says now and then that a consumer is there, and learns how many there are and its place among them.
import { nap } from '../util/abort.ts';
import { jittered } from '../util/backoff.ts';
import { report } from '../util/diagnostics.ts';
import { random } from '../util/random.ts';
import type { Groups } from './groups.ts';
import { renewMember, type GroupRef } from './store.ts';

/** Who has not said so for this long is not counted, in milliseconds. */
const MEMBER_MS = 15_000;
/** Between two counts while members come, in milliseconds. */
const RECOUNT_MS = 50;

export class Membership {
  readonly #groups: Groups;
  readonly #group: GroupRef;
  readonly #id: string;
  readonly #leaving = new AbortController();
  #renewing: Promise<void> | undefined;
  #pause: ReturnType<typeof nap> | undefined;
  #isStale = false;
  place = 0;
  members = 1;

  constructor(groups: Groups, group: GroupRef, id: string) {
    this.#groups = groups;
    this.#group = group;
    this.#id = id;
  }

  /** @throws SluiceError */
  async enter(): Promise<void> {
    await this.#renew(MEMBER_MS);
    this.#renewing = this.#keep();
  }

  /** Never rejects: who cannot say that it leaves is forgotten some time later. */
  async leave(): Promise<void> {
    this.#leaving.abort();
    await this.#renewing;
    await this.#renew(0).catch((error: unknown) => this.#report(error));
  }

  /** Others have come: counts them now, or again in a moment. */
  recount(): void {
    this.#isStale = true;
    this.#pause?.wake();
  }

  async #keep(): Promise<void> {
    const { signal } = this.#leaving;
    while (!signal.aborted) {
      this.#pause = nap(this.#isStale ? RECOUNT_MS : jittered(MEMBER_MS / 3, random()), signal);
      await this.#pause.done;
      if (signal.aborted) return;
      this.#isStale = false;
      await this.#renew(MEMBER_MS).catch((error: unknown) => this.#report(error));
    }
  }

  async #renew(ms: number): Promise<void> {
    const { place, members } = await renewMember(this.#groups.database, this.#group, this.#id, ms);
    this.place = place;
    if (members !== this.members) {
      const { name, stream } = this.#group;
      report('sluice:group.joined', () => ({ stream: stream.name, group: name, members }));
    }
    this.members = members;
  }

  #report(error: unknown): void {
    this.#groups.logger.warn({ error, group: this.#group.name }, 'a consumer could not say that it is there');
    report('sluice:background.failed', () => ({ where: 'group membership', error }));
  }
}
