// Durations and sizes as people type them: 90s, 7d, 10MB. Nothing is guessed: what has no unit is milliseconds or bytes.
import { wrongUsage } from './command-error.ts';

type Units = Readonly<Record<string, number>>;

const DURATIONS: Units = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };
const SIZES: Units = {
  B: 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

const parser =
  (units: Units, example: string) =>
  (option: string, text: string): number => {
    const [, digits = '', unit = ''] = /^(\d+(?:\.\d+)?) ?([A-Za-z]*)$/.exec(text) ?? [];
    const factor = unit === '' ? 1 : Object.hasOwn(units, unit) ? units[unit] : undefined;
    const amount = Math.round(Number(digits) * (factor ?? 0));
    if (digits !== '' && factor !== undefined && Number.isSafeInteger(amount)) return amount;
    const known = Object.keys(units).join(', ');
    throw wrongUsage(`${option} is ${JSON.stringify(text)}; give ${example} (units: ${known})`);
  };

/** Milliseconds. @throws CommandError */
export const parseDuration: (option: string, text: string) => number = parser(
  DURATIONS,
  'a duration such as 90s or 7d',
);

/** Milliseconds as they may be given back: in the largest unit that says them exactly. */
export function durationText(ms: number): string {
  const [unit, factor] = Object.entries(DURATIONS).findLast(([, factor]) => ms % factor === 0) ?? ['ms', 1];
  return `${ms / factor}${unit}`;
}

/** How long ago, in the largest unit that it fills, with three digits. */
export function ageText(ms: number): string {
  const [unit, factor] = Object.entries(DURATIONS).findLast(([, factor]) => ms >= factor) ?? ['ms', 1];
  return factor === 1 ? `${Math.round(ms)}ms` : `${Number((ms / factor).toPrecision(3))}${unit}`;
}

/** Bytes. @throws CommandError */
export const parseSize: (option: string, text: string) => number = parser(
  SIZES,
  'a size such as 500MB or 2GiB',
);

/** @throws CommandError */
export function parseCount(option: string, text: string): number {
  const count = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(count)) return count;
  throw wrongUsage(`${option} is ${JSON.stringify(text)}; give a whole number`);
}

/** @throws CommandError */
export function parseOffset(option: string, text: string): bigint {
  if (/^\d{1,19}$/.test(text)) return BigInt(text);
  throw wrongUsage(`${option} is ${JSON.stringify(text)}; give an offset, a whole number`);
}
