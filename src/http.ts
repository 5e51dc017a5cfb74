// `sluice/http`: serves streams over HTTP on any host that speaks Request and Response. Exports only.
export type { Audience } from './http/audience.ts';
export type { Action, Authorize, Grant } from './http/authorize.ts';
export {
  createHandler,
  type HandlerLimits,
  type HandlerOptions,
  type SluiceHandler,
} from './http/handler.ts';
