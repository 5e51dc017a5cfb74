// `sluice/client`: reads streams over HTTP in browsers, and wherever there is fetch. Exports only.
export { createClient, type Client, type SubscribeOptions } from './client/client.ts';
export type { BroadcastItem, EventItem, LossItem, Member, PresenceItem, StreamItem } from './client/item.ts';
export type { Observable } from './client/observable.ts';
export type { Problem } from './client/state.ts';
export type { ClientOptions, HeadersFunction, HeadersGiven } from './client/settings.ts';
export type { Connection, ConnectionState, Status } from './client/status.ts';
export type { Subscription } from './client/subscriber.ts';
export type { FetchInit, FetchLike } from './client/transport.ts';
export { SluiceError, type SluiceErrorCode } from './util/errors.ts';
