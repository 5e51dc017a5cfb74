// For commander: an option that may be given several times, and is a list then.
export const repeated = (value: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  value,
];
