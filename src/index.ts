// `sluice`: connect to a database, publish to streams and read them. Exports only; the parts are in the folders.
export { connect, migrate, type Health, type Sluice } from './sluice/connect.ts';
export type { ConnectOptions } from './sluice/options.ts';
export type {
  AppendOptions,
  BroadcastOptions,
  PublishOptions,
  ReadOptions,
  SubscribeOptions,
} from './sluice/call-options.ts';
export type { StreamPresence } from './sluice/stream-presence.ts';
export type { PresentMember } from './presence/members.ts';
export type { ReadResult, Stream } from './sluice/stream.ts';
export { createNotifyBus, type NotifyBusOptions } from './sluice/notify-bus.ts';
export type { NotifyBus } from './listen/bus.ts';
export type { NotifyBusStats } from './listen/bus-stats.ts';
export type {
  NotifyListenOptions,
  NotifySubscribeOptions,
  TypedListenOptions,
  TypedSubscribeOptions,
} from './listen/call-options.ts';
export type { ListenerState } from './listen/listener.ts';
export type { Notification, NotifyGap, NotifyLag, NotifyMessage } from './listen/notification.ts';
export type { NotifyHandler, NotifyHandlerSubscription } from './listen/handler-subscription.ts';
export type { NotifySubscription } from './listen/subscription.ts';
export type { Group } from './groups/group.ts';
export type { ClaimOptions, ConsumeOptions, GroupOptions } from './groups/options.ts';
export type { BatchContext, BatchHandler, EventHandler, HandlerContext } from './groups/context.ts';
export type { AckOptions, Lease } from './groups/lease.ts';
export type { DeadLetter, DeadLetterFilter, DeadLetters } from './groups/dead-letters.ts';
export type { GroupInfo, GroupStats } from './groups/stats.ts';
export type { PoolLike, Queryable, QueryConfig, SqlExecutor } from './db/queryable.ts';
export { printMigrations } from './db/migrate.ts';
export type { NewEvent } from './log/encode.ts';
export type { StreamEvent } from './log/event.ts';
export type { PayloadOptions } from './log/payload-schema.ts';
export type { StandardSchemaV1 } from './util/standard-schema.ts';
export type { StreamChanges, StreamOptions } from './log/stream-options.ts';
export type { StreamDetails, StreamInfo } from './log/streams.ts';
export type { Undeliverable } from './log/undeliverable.ts';
export type { Trimmed, TrimOptions } from './log/trim.ts';
export type { Position } from './protocol/position.ts';
export type { StreamSubscription } from './tail/iterate.ts';
export { SluiceError, type PayloadIssue, type SluiceErrorCode } from './util/errors.ts';
export type { LoggerLike } from './util/logger.ts';
