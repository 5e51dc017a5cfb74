// Stops a consumer for a while when its handlers fail one after another: what they depend on is down, and the events
// are better off waiting than being given up. After the pause one failure stops it again, and one success sets it free.
// Pure.

export class Breaker {
  readonly #failures: number;
  #inARow = 0;
  isOpen: boolean = false;

  constructor(failures: number) {
    this.#failures = failures;
  }

  get inARow(): number {
    return this.#inARow;
  }

  succeeded(): void {
    this.#inARow = 0;
  }

  /** Whether that was one too many. */
  failed(): boolean {
    this.#inARow += 1;
    if (this.isOpen || this.#inARow < this.#failures) return false;
    this.isOpen = true;
    return true;
  }

  /** The pause is over. */
  close(): void {
    this.isOpen = false;
    this.#inARow = this.#failures - 1;
  }
}
