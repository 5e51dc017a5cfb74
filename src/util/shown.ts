// A value in a message, such that its type can be told: "5" is no number, nor is 5n.

export const shown = (value: unknown): string => {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 80));
  return typeof value === 'bigint' ? `${value}n` : String(value);
};
