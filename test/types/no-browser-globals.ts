// Server code must not reach the browser's globals: this file compiles only because the lines below do not.

// @ts-expect-error `window` does not exist for server code
export const page: unknown = window.location;
// @ts-expect-error neither does `document`
export const title: unknown = document.title;
