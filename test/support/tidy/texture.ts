// Owns the rules about single files: their size, their name, their opening comment, what they must not contain.
// Each is a function of a list of files that returns what breaks it, so that a fixture can prove it able to fail.
import { findIn, importsOf, isUnder, type SourceFile } from './scan.ts';

const lineCount = (text: string): number => text.trimEnd().split('\n').length;

export const tooLong = (files: readonly SourceFile[], maxLines: number): string[] =>
  files
    .filter(({ text }) => lineCount(text) > maxLines)
    .map(({ path, text }) => `${path}: ${lineCount(text)} lines, at most ${maxLines}`);

/** 0 without files. */
export const medianLines = (files: readonly SourceFile[]): number => {
  const sizes = files.map(({ text }) => lineCount(text)).sort((a, b) => a - b);
  return sizes[Math.floor(sizes.length / 2)] ?? 0;
};

/** Names that say nothing about what a file owns; `index.ts` only inside layers, where it is a barrel. */
export const vagueNames = (files: readonly SourceFile[]): string[] =>
  files
    .map(({ path }) => path)
    .filter((path) => {
      const name = path.split('/').at(-1)!;
      return (
        /^(?:utils?|helpers?|types?|common|misc|shared)\.\w+$/.test(name) ||
        /^src\/.+\/index\.\w+$/.test(path)
      );
    });

export const notKebabCase = (files: readonly SourceFile[]): string[] =>
  files
    .map(({ path }) => path)
    .filter((path) => !/^[a-z0-9]+(?:-[a-z0-9]+)*(?:\.[a-z]+)+$/.test(path.split('/').at(-1)!));

/** Files that do not open with a comment of at least a full sentence. */
export const unopened = (files: readonly SourceFile[]): string[] =>
  files
    .filter(({ text }) => {
      const opening = /^(?:#!.*\n)?((?:\/\/.*\n)+|\/\*[^]*?\*\/)/.exec(text)?.[1] ?? '';
      return opening.replace(/[^\p{L}]+/gu, ' ').trim().length < 40;
    })
    .map(({ path }) => `${path}: open with a comment of what the file owns and must never do`);

/** Something code must not contain, and the files or folders where it may stand all the same. */
export interface Ban {
  readonly what: string;
  readonly code: RegExp;
  readonly allowedIn?: readonly string[];
}

export const bannedCode = (files: readonly SourceFile[], bans: readonly Ban[]): string[] =>
  bans.flatMap(({ what, code, allowedIn = [] }) =>
    files
      .filter(({ path }) => !isUnder(path, allowedIn))
      .flatMap((file) => findIn(file, 'code', code))
      .map((place) => `${place} (${what})`),
  );

/** Places a ban names as allowed although nothing there needs it: a list of exceptions must not outlive them. */
export const needlessExceptions = (files: readonly SourceFile[], bans: readonly Ban[]): string[] =>
  bans.flatMap(({ what, code, allowedIn = [] }) =>
    allowedIn
      .filter(
        (place) =>
          !files.some((file) => isUnder(file.path, [place]) && findIn(file, 'code', code).length > 0),
      )
      .map((place) => `${place} no longer needs its exception for ${what}`),
  );

/** Comments that switch a check off. An expected type error is a check of its own, in the tests of types. */
export const disabledChecks = (files: readonly SourceFile[]): string[] =>
  files.flatMap((file) => [
    ...findIn(file, 'comments', /(?:oxlint|eslint)-disable|@ts-ignore|@ts-nocheck/),
    ...(isUnder(file.path, ['test/types']) ? [] : findIn(file, 'comments', /@ts-expect-error/)),
  ]);

/** Upper-case SQL in string literals. */
export const upperCaseSqlInCode = (files: readonly SourceFile[]): string[] =>
  files.flatMap((file) =>
    findIn(
      file,
      'literals',
      /(?<=^|\s)(?:SELECT|INSERT INTO|UPDATE \w+ SET|DELETE FROM|CREATE (?:TABLE|INDEX)|ALTER TABLE)\s/m,
    ),
  );

/** Text that belongs to one machine: home directories and the like. Temporary folders come from `os.tmpdir()`. */
export const machinePaths = (files: readonly SourceFile[]): string[] =>
  files.flatMap(({ path, text }) =>
    text
      .split('\n')
      .flatMap((line, index) =>
        [...line.matchAll(/(?<![\w.)}\]*-])\/(?:work|root|home|Users)\/[\w.-]+|[A-Z]:\\\\?Users\\/g)].map(
          (match) => `${path}:${index + 1}: ${match[0]}`,
        ),
      ),
  );

/** Waits by the clock. */
export const sleeps = (files: readonly SourceFile[], allowedIn: readonly string[]): string[] => [
  ...bannedCode(files, [
    {
      what: 'await a message or a condition instead',
      code: /\bset(?:Timeout|Interval)\b|\bsleep\b/,
      allowedIn,
    },
  ]),
  ...files
    .filter(
      (file) =>
        !isUnder(file.path, allowedIn) &&
        importsOf(file).some((specifier) => specifier.startsWith('node:timers')),
    )
    .map(({ path }) => `${path}: imports node:timers (await a message or a condition instead)`),
];

/** Tests switched off, singled out, or run against a pretended module. */
export const switchedOff = (files: readonly SourceFile[]): string[] =>
  bannedCode(files, [
    {
      what: 'every test runs',
      code: /\.(?:only|skip|todo)\s*(?:\(|\.)|\b(?:xit|xtest|xdescribe|fit|fdescribe)\s*\(/,
    },
    { what: 'no mocks: real Postgres, real sockets', code: /\bvi\s*\.\s*(?:mock|doMock)\s*\(/ },
  ]);
