// The one reading of the wall clock outside the command line. What only measures a span uses performance.now().

/** Milliseconds since 1970, as the machine's clock says now: follows its steps and a suspend. */
export const wallClockMs = (): number => Date.now();
