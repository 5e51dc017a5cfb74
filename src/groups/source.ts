// Finds a group by its name, or makes it where it is to begin; and turns positions and times into offsets of its stream.
import type { Database } from '../db/database.ts';
import { timestamp } from '../db/timestamp.ts';
import type { StreamIdentity } from '../log/event.ts';
import type { Position } from '../protocol/position.ts';
import { toError } from '../tail/loss.ts';
import { findStart, requirePosition } from '../tail/start.ts';
import { SluiceError } from '../util/errors.ts';
import type { GroupSettings } from './options.ts';
import { ensureGroup, findGroup, type GroupRef } from './store.ts';

export class GroupSource {
  readonly #database: Database;
  readonly #stream: string;
  readonly #name: string;
  readonly #settings: GroupSettings;
  #ref: Promise<GroupRef> | undefined;

  constructor(
    database: Database,
    names: { readonly stream: string; readonly group: string },
    settings: GroupSettings,
  ) {
    this.#database = database;
    this.#stream = names.stream;
    this.#name = names.group;
    this.#settings = settings;
  }

  /** @throws SluiceError stream_not_found; RangeError: it has other partitions */
  group(): Promise<GroupRef> {
    this.#ref ??= this.#open().catch((error: unknown) => {
      this.#ref = undefined;
      throw error;
    });
    return this.#ref;
  }

  forget(): void {
    this.#ref = undefined;
  }

  /** Runs work with the group. That it turns out to be gone is remembered: it is looked up anew the next time. */
  async run<R>(work: (group: GroupRef) => Promise<R>): Promise<R> {
    try {
      return await work(await this.group());
    } catch (error) {
      if (error instanceof SluiceError && error.code === 'stream_not_found') this.forget();
      throw error;
    }
  }

  /** The offset before which a position, or the first event of a time, lies. @throws SluiceError, RangeError */
  async offsetOf(to: Position | Date): Promise<bigint> {
    if (!(to instanceof Date)) return (await this.#startAt(to)).offset;
    const time = timestamp('to', to);
    const { state } = await findStart(this.#database, this.#stream, requirePosition('start'), 0);
    const [row] = await this.#database.query<{ after: string }>(
      `select ${this.#database.names.quoted}.offset_before($1, $2, $3, $4::timestamptz)::text as after`,
      [String(state.incarnation), String(state.trimmedTo), String(state.head), time],
    );
    return BigInt(row?.after ?? state.trimmedTo);
  }

  async #open(): Promise<GroupRef> {
    const { partitions, holdMs } = this.#settings;
    let group = await findGroup(this.#database, this.#stream, this.#name);
    if (!group) group = await this.#make();
    else if (holdMs !== undefined) group = await this.#ensure(group.stream, 0n);
    if (partitions === null || group.partitions === partitions) return group;
    const has = group.partitions === null ? 'no partitions' : `${group.partitions} partitions`;
    throw new RangeError(
      `group ${JSON.stringify(this.#name)} has ${has}, not ${partitions}: they are fixed when a group is made; use its own, delete it, or take another name`,
    );
  }

  async #make(): Promise<GroupRef> {
    const { identity, offset } = await this.#startAt(this.#settings.from);
    return this.#ensure(identity, offset);
  }

  async #ensure(stream: StreamIdentity, after: bigint): Promise<GroupRef> {
    const { partitions, holdMs } = this.#settings;
    const group = await ensureGroup(this.#database, { stream, name: this.#name, after, partitions, holdMs });
    if (group) return group;
    throw new SluiceError('stream_not_found', `stream ${JSON.stringify(this.#stream)} was deleted`);
  }

  async #startAt(position: Position): Promise<{ identity: StreamIdentity; offset: bigint }> {
    const start = await findStart(this.#database, this.#stream, requirePosition(position), 0);
    if (start.kind === 'lost') throw toError(start.loss);
    const identity = { name: this.#stream, incarnation: start.state.incarnation };
    return { identity, offset: start.place.offset };
  }
}
