// Owns the hosts that a handler can be mounted in, each started as its documentation says, with compression where it has
// any. Bun and Deno run the built package in processes of their own.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createServer as createHttp2Server } from 'node:http2';
import type { AddressInfo, Server } from 'node:net';
import { serve as serveHono } from '@hono/node-server';
import compression from 'compression';
import express from 'express';
import fastify from 'fastify';
import { Hono } from 'hono';
import { compress } from 'hono/compress';
import Koa from 'koa';
import type { SluiceHandler } from 'sluice/http';
import { toNodeListener } from 'sluice/node';
import type { TestContext } from 'vitest';
import { root } from './tidy/files.ts';

export interface Host extends AsyncDisposable {
  readonly origin: string;
}

type Start = (handler: SluiceHandler) => Promise<Host>;

const listening = async (server: Server & { closeAllConnections?(): void }): Promise<Host> => {
  if (!server.listening) {
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
  }
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    [Symbol.asyncDispose]: async () => {
      server.closeAllConnections?.();
      server.close();
      await once(server, 'close');
    },
  };
};

export const hosts: Readonly<Record<string, Start>> = {
  'node:http': (handler) => listening(createServer(toNodeListener(handler))),

  'Express 5': (handler) => {
    const app = express();
    app.use(compression({ threshold: 0 }), express.json());
    app.use('/', toNodeListener(handler));
    return listening(createServer(app));
  },

  'Fastify 5': async (handler) => {
    const app = fastify({ forceCloseConnections: true });
    const listener = toNodeListener(handler);
    app.all('/*', (request, reply) => {
      reply.hijack();
      listener(request.raw, reply.raw);
    });
    await app.listen({ port: 0, host: '127.0.0.1' });
    const { port } = app.server.address() as AddressInfo;
    return { origin: `http://127.0.0.1:${port}`, [Symbol.asyncDispose]: () => app.close() };
  },

  'Koa 3': (handler) => {
    const app = new Koa();
    const listener = toNodeListener(handler);
    app.use((context) => {
      context.respond = false;
      listener(context.req, context.res);
    });
    const respond = app.callback();
    return listening(createServer((request, response) => void respond(request, response)));
  },

  'Hono 4': (handler) => {
    const app = new Hono();
    app.use(compress());
    app.all('/*', (context) => handler(context.req.raw));
    return listening(serveHono({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }));
  },
};

/** HTTP/2 without TLS, which browsers do not speak; its own client is in the test. */
export const startHttp2 = (handler: SluiceHandler): Promise<Host> => {
  const server = createHttp2Server(toNodeListener(handler) as never);
  const sessions = new Set<{ destroy(): void }>();
  server.on('session', (session) => sessions.add(session));
  return listening(
    Object.assign(server, {
      closeAllConnections: () => {
        for (const session of sessions) session.destroy();
      },
    }),
  );
};

const runtimes = {
  Bun: ['bun', 'run'],
  Deno: ['deno', 'run', '--allow-all', '--quiet'],
} as const;
export type Runtime = keyof typeof runtimes;

const programOf = (runtime: Runtime): string => `${root}node_modules/.bin/${runtimes[runtime][0]}`;

/** A server of the built package in the runtime, on the database. Their packages fetch them with install scripts. */
export const startRuntime = async (
  context: TestContext,
  runtime: Runtime,
  connectionString: string,
): Promise<Host> => {
  if (spawnSync(programOf(runtime), ['--version'], { stdio: 'ignore' }).status !== 0) {
    const remedy = 'it comes with `npm ci` unless install scripts are disabled';
    if (process.env['CI']) throw new Error(`${runtime} is not installed: ${remedy}`);
    process.stderr.write(`${runtime}: SKIPPED (not installed: ${remedy})\n`);
    return context.skip(`no ${runtime}`);
  }
  const [, ...args] = runtimes[runtime];
  const child = spawn(programOf(runtime), [...args, `${root}test/support/runtime-server.mjs`], {
    cwd: root,
    env: { ...process.env, DATABASE_URL: connectionString },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const exited = once(child, 'exit');
  let output = '';
  for await (const chunk of child.stdout) {
    output += String(chunk);
    if (output.includes('\n')) break;
  }
  return {
    origin: output.trim(),
    [Symbol.asyncDispose]: async () => {
      child.stdin.end(); // it closes by itself then
      await exited;
    },
  };
};
