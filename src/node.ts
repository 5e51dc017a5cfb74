// `sluice/node`: mounts a handler in node:http and the frameworks on top of it. Exports only.
export { toNodeListener, type NodeListener } from './http/node-listener.ts';
