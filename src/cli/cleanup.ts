// What has been opened and is to be closed again, last first, each whatever becomes of the others. The error that ended
// the work is the one that is told; without one, the first error of closing.

export class Cleanup {
  readonly #steps: (() => Promise<void> | void)[] = [];

  add(close: () => Promise<void> | void): void {
    this.#steps.push(close);
  }

  /** @throws the first error of a step, when all have run */
  async run(): Promise<void> {
    const errors: unknown[] = [];
    for (let close = this.#steps.pop(); close; close = this.#steps.pop()) {
      try {
        await close();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}

/** Runs `work`, then closes what it has added. */
export async function withCleanup(work: (cleanup: Cleanup) => Promise<void>): Promise<void> {
  const cleanup = new Cleanup();
  try {
    await work(cleanup);
  } catch (error) {
    await cleanup.run().catch(() => {}); // the first error is the one to tell
    throw error;
  }
  await cleanup.run();
}
