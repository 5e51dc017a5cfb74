// `sluice/http`: serves streams over HTTP on any host that speaks Request and Response. Exports only.
export type { Action, Authorize, Grant } from './http/authorize.ts';
export type { PresenceGrant } from './http/presence-request.ts';
export {
  createHandler,
  type HandlerLimits,
  type HandlerOptions,
  type SluiceHandler,
} from './http/handler.ts';
