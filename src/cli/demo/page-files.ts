// Serves the files of the page from the folder beside this module, where the build puts them. It must never read a
// path taken from a request: a name is a word and a known ending, or it is nothing.

import { readFile } from 'node:fs/promises';
import { securityHeaders } from './problem.ts';

const folder = new URL('./page/', import.meta.url);

const contentTypes: Readonly<Record<string, string>> = {
  css: 'text/css; charset=utf-8',
  html: 'text/html; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  svg: 'image/svg+xml',
};

/** The file behind a path, or null when there is none. */
export async function pageFile(pathname: string): Promise<Response | null> {
  const name = pathname === '/' ? 'index.html' : /^\/demo\/([a-z-]+\.(?:css|js|svg))$/.exec(pathname)?.[1];
  if (name === undefined) return null;
  const type = contentTypes[name.slice(name.lastIndexOf('.') + 1)];
  try {
    const body = await readFile(new URL(name, folder));
    return new Response(body, { headers: { ...securityHeaders, ...(type && { 'content-type': type }) } });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw error;
  }
}
