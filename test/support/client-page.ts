// Owns web pages for tests of the client in a browser: a handler and the bundled page on one port, so that a browser's
// limit of six connections to an origin holds as for users. Pages are programs; what they import is the built package.
import { once } from 'node:events';
import { createServer, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { build } from 'esbuild';
import type { Sluice } from 'sluice';
import { createHandler, type HandlerOptions, type SluiceHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';
import { anyone } from './serve.ts';
import { root } from './tidy/files.ts';

export interface ClientPage extends AsyncDisposable {
  readonly origin: string;
  /** Requests for events so far. */
  readonly requests: readonly string[];
  /** Event streams open now. */
  open(): number;
  /** Bytes written to them that no socket has taken. */
  unsent(): number;
  /** The server dies with all its connections; `start` brings one back on the same port. */
  kill(): Promise<void>;
  start(): Promise<void>;
}

/** Bundles a program for browsers; answers its files by name, the program itself as `page.js`. */
const bundle = async (program: string): Promise<Map<string, Uint8Array>> => {
  const { outputFiles } = await build({
    stdin: { contents: program, resolveDir: root, sourcefile: 'page.tsx', loader: 'tsx' },
    outdir: '/out',
    entryNames: 'page',
    bundle: true,
    splitting: true,
    format: 'esm',
    jsx: 'automatic',
    define: { 'process.env.NODE_ENV': '"development"' },
    write: false,
  });
  return new Map(outputFiles.map(({ path, contents }) => [`/${path.split('/').at(-1)}`, contents]));
};

export async function serveClientPage(
  sluice: Sluice,
  program: string,
  { html = () => '', ...options }: Partial<HandlerOptions> & { readonly html?: () => string } = {},
): Promise<ClientPage> {
  const files = await bundle(program);
  const requests: string[] = [];
  const open = new Set<ServerResponse>();
  let port = 0;
  let running: { readonly server: Server; readonly handler: SluiceHandler } | undefined;
  const start = async (): Promise<void> => {
    const handler = createHandler(sluice, { authorize: anyone, limits: { retryMs: 50 }, ...options });
    const events = toNodeListener(handler);
    const server = createServer((request, response) => {
      const { url = '' } = request;
      const file = files.get(url.split('?')[0]!);
      if (url.startsWith('/v1/')) {
        requests.push(url);
        open.add(response);
        response.once('close', () => open.delete(response));
        return events(request, response);
      }
      response.writeHead(200, { 'content-type': file ? 'text/javascript' : 'text/html' });
      response.end(file ?? `<!doctype html><body>${html()}<script type="module" src="/page.js"></script>`);
    });
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    port = (server.address() as AddressInfo).port;
    running = { server, handler };
  };
  const kill = async (): Promise<void> => {
    const { server, handler } = running!;
    server.closeAllConnections();
    server.close();
    await once(server, 'close');
    await handler.close();
  };
  await start();
  return {
    origin: `http://127.0.0.1:${port}`,
    requests,
    open: () => open.size,
    unsent: () => [...open].reduce((sum, { writableLength }) => sum + writableLength, 0),
    kill,
    start,
    [Symbol.asyncDispose]: kill,
  };
}
