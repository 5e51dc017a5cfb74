// What the doctor finds: one thing looked at, how it is, and what to do about it.

export type Level = 'ok' | 'warn' | 'bad';

export interface Finding {
  readonly name: string;
  readonly level: Level;
  readonly message: string;
  /** What mends it; with `warn` and `bad` only. */
  readonly remedy?: string | undefined;
}

export const ok = (name: string, message: string): Finding => ({ name, level: 'ok', message });

export const warn = (name: string, message: string, remedy: string): Finding => ({
  name,
  level: 'warn',
  message,
  remedy,
});

export const bad = (name: string, message: string, remedy: string): Finding => ({
  name,
  level: 'bad',
  message,
  remedy,
});

/** A duration for people. */
export const duration = (seconds: number): string => {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
};
