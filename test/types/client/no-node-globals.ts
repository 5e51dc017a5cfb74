// Browser code must not reach Node's globals: this file compiles only because the line below does not.

// @ts-expect-error `process` does not exist for client code
export const version: unknown = process.version;
// @ts-expect-error neither does Node's Buffer
export const buffer: unknown = Buffer;
