// Owns reading code out of Markdown: which fences a document has, what is asked of each, and the program a fence stands
// for. Pure. A fence may follow, after blank lines at most, a comment with marks for the test of the documents:
//   <!-- run -->             it is executed as well (ts, js, sql), against a database of its own
//   <!-- continue -->        (ts, js) the previous fence of its language comes before it, as in one file
//   <!-- continue, run -->   both
import type { SourceFile } from './tidy/scan.ts';

const marks = ['run', 'continue'] as const;
type Mark = (typeof marks)[number];

export interface Fence {
  /** Of the document. */
  readonly path: string;
  /** Of the first line of code, from 1. */
  readonly line: number;
  readonly language: string;
  readonly text: string;
  readonly marks: readonly Mark[];
}

const spellings: Readonly<Record<string, string>> = {
  typescript: 'ts',
  javascript: 'js',
  mjs: 'js',
  bash: 'sh',
  shell: 'sh',
  console: 'sh',
};

/** Marks before a fence; text that is no list of words is an ordinary comment. Throws for a word that is no mark. */
const marksIn = (line: string, place: string): Mark[] => {
  const words = /^<!--\s*([a-z]+(?:\s*,\s*[a-z]+)*)\s*-->$/.exec(line.trim())?.[1]?.split(/\s*,\s*/) ?? [];
  return words.map((word) => {
    const mark = marks.find((each) => each === word);
    if (mark === undefined) throw new Error(`${place}: unknown mark "${word}": use ${marks.join(' or ')}`);
    return mark;
  });
};

export const fencesOf = ({ path, text }: SourceFile): Fence[] => {
  const lines = text.split('\n');
  const fences: Fence[] = [];
  for (let at = 0; at < lines.length; at += 1) {
    const opening = /^(\s*)(`{3,}|~{3,})\s*([\w-]*)/.exec(lines[at]!);
    if (opening === null) continue;
    const [, indent = '', bar = '', language = ''] = opening;
    const start = at + 1;
    let end = start;
    while (end < lines.length && !lines[end]!.trim().startsWith(bar)) end += 1;
    if (end === lines.length) throw new Error(`${path}:${start}: this fence is never closed`);
    const before = lines.slice(0, at).findLast((line) => line.trim() !== '') ?? '';
    fences.push({
      path,
      line: start + 1,
      language: spellings[language] ?? language,
      text: lines
        .slice(start, end)
        .map((line) => (line.startsWith(indent) ? line.slice(indent.length) : line))
        .join('\n'),
      marks: marksIn(before, `${path}:${at}`),
    });
    at = end;
  }
  return fences;
};

/** The text of a fence, after those it continues. */
export const programOf = (fence: Fence, fences: readonly Fence[]): string => {
  if (!fence.marks.includes('continue')) return fence.text;
  const previous = fences.findLast(
    ({ path, language, line }) => path === fence.path && language === fence.language && line < fence.line,
  );
  if (previous === undefined) throw new Error(`${fence.path}:${fence.line}: there is no fence to continue`);
  return `${programOf(previous, fences)}\n${fence.text}`;
};

export interface Commands {
  /** Of the CLI. */
  readonly sluice: readonly string[];
  /** Of package.json. */
  readonly scripts: readonly string[];
}

/** What a shell fence calls that does not exist. */
export const unknownCommands = ({ text }: Fence, { sluice, scripts }: Commands): string[] => {
  const named = (expression: RegExp): string[] => [...text.matchAll(expression)].map((match) => match[1]!);
  return [
    ...named(/\bnpx (?:-y |--yes )?sluice ([a-z][\w-]*)/g)
      .filter((command) => !sluice.includes(command))
      .map((command) => `sluice ${command}`),
    ...named(/\bnpm (?:run )?((?<=run )[\w:-]+|start|test)\b/g)
      .filter((script) => !scripts.includes(script))
      .map((script) => `npm run ${script}`),
  ];
};
