// Owns the rules about sql/: one function per file, named like it and safe from the caller's search_path, keywords in
// lower case. Works on text: PostgreSQL itself judges the syntax, in the tests that migrate.
import type { SourceFile } from './scan.ts';

const keywords =
  'select|insert|into|update|delete|from|where|join|left|right|inner|outer|lateral|on|using|group|order|by|having|limit|' +
  'offset|union|all|except|intersect|values|returning|with|as|is|null|not|and|or|in|exists|between|case|when|then|else|' +
  'end|create|replace|alter|drop|table|index|unique|view|function|procedure|returns|language|declare|begin|commit|' +
  'rollback|if|loop|while|for|foreach|return|raise|perform|execute|set|default|primary|key|references|constraint|check|' +
  'partition|trigger|sequence|grant|revoke|cascade|materialized|recursive|distinct|array|coalesce|greatest|least';

/** SQL without comments and string literals; dollar-quoted bodies stay, as they are code. */
const sqlCode = (text: string): string =>
  text.replace(/--.*|\/\*[^]*?\*\/|'(?:[^']|'')*'/g, (piece) => piece.replace(/[^\n]/g, ' '));

export const upperCaseKeywords = (files: readonly SourceFile[]): string[] => {
  const upper = new RegExp(`(?<![\\w"])(?:${keywords.toUpperCase()})(?![\\w"])`, 'g');
  return files.flatMap(({ path, text }) => {
    const code = sqlCode(text);
    return [...code.matchAll(upper)].map(
      (match) => `${path}:${code.slice(0, match.index).split('\n').length}: ${match[0]} in upper case`,
    );
  });
};

/** Files of sql/functions that are not exactly one function of their name with a pinned search_path. */
export const unruly = (files: readonly SourceFile[]): string[] =>
  files.flatMap(({ path, text }) => {
    const code = sqlCode(text);
    const name = path
      .split('/')
      .at(-1)!
      .replace(/\.sql$/, '');
    const defined = [
      ...code.matchAll(/create\s+(?:or\s+replace\s+)?(?:function|procedure)\s+([^\s(]+)/gi),
    ].map((match) => match[1]!.split('.').at(-1)!.replaceAll('"', ''));
    const problems: string[] = [];
    if (defined.length !== 1 || defined[0] !== name) {
      problems.push(
        `${path} defines ${defined.join(', ') || 'nothing'}: exactly one function, named ${name}`,
      );
    }
    // What stands in `begin atomic` is looked up once, when it is made.
    if (!/^\s*(?:set\s+search_path\s*(?:=|to)|begin\s+atomic\s)/im.test(code.split('$$')[0]!)) {
      problems.push(`${path}: pin search_path with a set clause on the function`);
    }
    return problems;
  });

/** SQL files that do not open with a comment. */
export const uncommented = (files: readonly SourceFile[]): string[] =>
  files.filter(({ text }) => !/^--\s*\S/.test(text)).map(({ path }) => `${path}: open with a comment`);
