// The one source of chance for timing. Pure code takes it as a parameter; nothing secret is ever made from it.

/** A number in [0, 1). */
export const random = (): number => Math.random();
