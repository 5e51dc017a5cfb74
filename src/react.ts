// `sluice/react`: streams, presence and the connection as hooks. Exports only.
export { useConnection } from './react/use-connection.ts';
export { usePresence, type PresenceOptions } from './react/use-presence.ts';
export type { StreamNames } from './react/stream-store.ts';
export { useStream, type StreamView, type UseStreamOptions } from './react/use-stream.ts';
export { useStreamReducer, type ReducedStream, type ReducerOptions } from './react/use-stream-reducer.ts';
