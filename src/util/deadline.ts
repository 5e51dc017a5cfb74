// A deadline that blames nobody for our own sleep: a process that was stopped, or a machine that slept, wakes with its
// timers overdue and the answers unread. What is late is judged only once what had already arrived has been read.

/** Calls `onLate` when `ms` have passed, unless the returned function was called before. Does not keep the process alive. */
export function deadline(ms: number, onLate: () => void): () => void {
  let settled = false;
  const timer = setTimeout(() => {
    // The event loop reads its sockets between its timers and this.
    setImmediate(() => {
      if (settled) return;
      settled = true;
      onLate();
    });
  }, ms);
  timer.unref();
  return () => {
    settled = true;
    clearTimeout(timer);
  };
}
