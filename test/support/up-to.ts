// Owns the numbers of a stream's first events, which tests write and expect.

/** 1 to `count`. */
export const upTo = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
