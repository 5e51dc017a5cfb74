// `sluice/http`: serves streams over HTTP on any host that speaks Request and Response. Exports only.
export type { Audience } from './http/audience.ts';
export type { Action, Authorize, Grant } from './http/authorize.ts';
export type { PresenceGrant } from './http/presence-request.ts';
export type { TrustProxy } from './http/client-address.ts';
export type { CorsOptions } from './http/cors.ts';
export { createHandler, type RequestHandler, type SluiceHandler } from './http/handler.ts';
export type { HandlerLimits, HandlerOptions, StatsHistoryOptions } from './http/handler-options.ts';
export type { HistogramStats } from './http/histogram.ts';
export type { MetricRegistry, MetricsReaders } from './http/metrics.ts';
export type { EndReason } from './http/end-reason.ts';
export type { HandlerStats, StreamStats } from './http/stats.ts';
export type { StatsHistoryQuery, StatsInterval } from './http/stats-history.ts';
export type { DeliveryStats } from './http/traffic.ts';
export type { Revocation } from './http/revocation-list.ts';
export {
  createTokens,
  type CapabilityRequest,
  type PresenceRequest,
  type TicketRequest,
  type TokenRequest,
  type Tokens,
  type TokensOptions,
} from './http/tokens.ts';
