// `sluice/element`: `<sluice-stream>`, for pages without a framework. Exports only.
export { defineStreamElement } from './element/stream-element.ts';
