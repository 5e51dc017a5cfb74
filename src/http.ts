// `sluice/http`: serves streams over HTTP on any host that speaks Request and Response. Exports only.
export type { Action, Authorize, Grant } from './http/authorize.ts';
export {
  createHandler,
  type HandlerLimits,
  type HandlerOptions,
  type RequestHandler,
  type SluiceHandler,
} from './http/handler.ts';
export type { HistogramStats } from './http/histogram.ts';
export type { MetricRegistry, MetricsReaders } from './http/metrics.ts';
export type { EndReason } from './http/session.ts';
export type { DeliveryStats, HandlerStats, StreamStats } from './http/stats.ts';
