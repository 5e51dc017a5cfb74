// Owns telling code from comments and literals in TypeScript text, so that a rule about identifiers is not fooled by
// prose or by strings, and the other way round. A scanner, not a parser: the compiler has no API to ask, and every
// rule built on this needs only to know what kind of text a character belongs to.

/** A file as the rules see it: its path from the root of the package, with forward slashes. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** The text three times, each with everything of the other kinds blanked; offsets and line breaks are kept. */
export interface Scanned {
  readonly code: string;
  readonly comments: string;
  readonly literals: string;
}

const comment = /^#!.*|\/\/.*|\/\*[^]*?\*\//y;
const quoted = /'(?:[^'\\\n]|\\[^])*'|"(?:[^"\\\n]|\\[^])*"/y;
const templatePart = /(?:[^`\\$]|\\[^]|\$(?!\{))*(?:`|\$\{)/y;
const pattern = /\/(?:[^/\\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+\/[a-z]*/y;
const word = /[\w$]+/y;
const beforePattern =
  /^(?:|[([{},;:=!&|?+\-*%^~<>]|return|typeof|case|in|of|void|throw|await|yield|else|do)$/;

const matchAt = (expression: RegExp, text: string, at: number): string | undefined => {
  expression.lastIndex = at;
  return expression.exec(text)?.[0];
};

// Each rule asks of every file again, and there are as many texts as files.
const scanned = new Map<string, Scanned>();

export const scan = (text: string): Scanned => {
  let known = scanned.get(text);
  if (known === undefined) scanned.set(text, (known = scanOnce(text)));
  return known;
};

const scanOnce = (text: string): Scanned => {
  const kinds = { code: [] as string[], comments: [] as string[], literals: [] as string[] };
  const put = (kind: keyof Scanned, piece: string): void => {
    for (const each of ['code', 'comments', 'literals'] as const) {
      kinds[each].push(each === kind ? piece : piece.replace(/[^\n]/g, ' '));
    }
  };
  /** The delimiters stay code, so that a rule can see that there is a literal. */
  const putLiteral = (piece: string, close: number): void => {
    put('code', piece.slice(0, 1));
    put('literals', piece.slice(1, -close));
    put('code', piece.slice(-close));
  };
  const openBraces: number[] = []; // per template literal we are inside of: braces open in its ${…}
  let previous = '';
  let at = 0;
  while (at < text.length) {
    let piece: string | undefined;
    const inTemplate = openBraces.at(-1) === 0 && text[at] === '}';
    if ((piece = matchAt(comment, text, at))) {
      put('comments', piece);
    } else if (text[at] === '`' || inTemplate) {
      if (inTemplate) openBraces.pop();
      piece = text[at]! + (matchAt(templatePart, text, at + 1) ?? '');
      const goesOn = piece.endsWith('${');
      if (goesOn) openBraces.push(0);
      putLiteral(piece, goesOn ? 2 : 1);
      previous = goesOn ? '{' : '`';
    } else if ((piece = matchAt(quoted, text, at))) {
      putLiteral(piece, 1);
      previous = "'";
    } else if (beforePattern.test(previous) && (piece = matchAt(pattern, text, at))) {
      putLiteral(piece, 1);
      previous = '/';
    } else {
      piece = matchAt(word, text, at) ?? text[at]!;
      put('code', piece);
      if (openBraces.length > 0 && piece === '{') openBraces[openBraces.length - 1]! += 1;
      if (openBraces.length > 0 && piece === '}') openBraces[openBraces.length - 1]! -= 1;
      if (piece.trim() !== '') previous = piece;
    }
    at += piece.length;
  }
  return { code: kinds.code.join(''), comments: kinds.comments.join(''), literals: kinds.literals.join('') };
};

/** The specifiers of every import, re-export, dynamic import and `require` in a file. */
export const importsOf = ({ text }: SourceFile): string[] => {
  const { code, literals } = scan(text);
  return [...code.matchAll(/\b(?:from|import|require)\s*\(?\s*(['"`])\s*\1/g)].map((match) => {
    const end = match.index + match[0].length - 1;
    return literals.slice(match.index, end).trim();
  });
};

/** Where `expression` matches in one kind of text, as `path:line: match`. */
export const findIn = (file: SourceFile, kind: keyof Scanned, expression: RegExp): string[] => {
  const text = scan(file.text)[kind];
  const global = new RegExp(
    expression,
    expression.flags.includes('g') ? expression.flags : `${expression.flags}g`,
  );
  return [...text.matchAll(global)].map(
    (match) => `${file.path}:${text.slice(0, match.index).split('\n').length}: ${match[0].trim()}`,
  );
};

export const isUnder = (path: string, prefixes: readonly string[]): boolean =>
  prefixes.some((prefix) => path === prefix || path === `${prefix}.ts` || path.startsWith(`${prefix}/`));
