// What `sluice dev` does: a database if there is none, the schema, HTTP on loopback with nobody asked who they are, and
// with --demo the shop. It must never listen beyond loopback, and answers nothing that another site's page could have sent.
import { createHandler as createSluiceHandler, type RequestHandler, type SluiceHandler } from '../http.ts';
import type { Sluice } from '../index.ts';
import { messageOf } from '../util/errors.ts';
import type { Cleanup } from './cleanup.ts';
import { CommandError, wrongUsage } from './command-error.ts';
import type { Context } from './context.ts';
import { openShop, type OpenShop } from './demo/open-shop.ts';
import { leaveNote } from './dev-file.ts';
import { openDevDatabase } from './dev-database.ts';
import { createLoopbackCheck, isLoopbackHost } from './loopback.ts';
import { stderrLogger } from './stderr-logger.ts';
import { untilStopped } from './stop.ts';
import { openSluice } from './target.ts';
import { addressFrom, openWebServer, requireFreeAddress, type Address } from './web-server.ts';

/** Runs until it is stopped; closes what it has opened by `cleanup`. @throws CommandError */
export async function dev(context: Context, cleanup: Cleanup, demo: boolean): Promise<void> {
  const { out, signal } = context;
  const address = addressFrom(process.env);
  if (!isLoopbackHost(address.host)) {
    throw wrongUsage(
      `HOST is ${JSON.stringify(address.host)}, and dev lets anyone in, so it stays on loopback: use 127.0.0.1, or \`sluice serve\``,
    );
  }
  await requireFreeAddress(address);
  const logger = stderrLogger(context);
  const database = await openDevDatabase(context);
  cleanup.add(() => database.stop());
  const { connectionString, schema } = database;
  const sluice = await openSluice(database, { migrate: 'apply', logger, signal });
  cleanup.add(() => sluice.close());
  const shop = demo ? await openShop({ sluice, connectionString, logger }) : undefined;
  cleanup.add(() => shop?.close());
  const createHandler = (port: number): SluiceHandler => devHandler(sluice, shop, { ...address, port });
  const server = await openWebServer({ address, createHandler, logger });
  cleanup.add(() => server.close());
  const note = { pid: process.pid, url: server.url, connectionString, schema };
  cleanup.add(await leaveNote(process.cwd(), note).catch((error: unknown) => notLeft(context, error)));
  out.talk(`Sluice runs on ${database.source}.`);
  await out.data(server.url, { url: server.url, pid: process.pid, database: database.source, schema });
  out.talk(demo ? demoHints(server.url) : hints(server.url));
  await untilStopped(signal);
  out.talk('stopping');
}

// A folder that cannot be written to is no reason not to run.
function notLeft({ out }: Context, error: unknown): () => void {
  if (error instanceof CommandError) throw error;
  out.warn(`other commands will not find this one by its folder: ${messageOf(error)}`);
  return () => {};
}

function devHandler(sluice: Sluice, shop: OpenShop | undefined, address: Address): SluiceHandler {
  const handler = createSluiceHandler(sluice, { authorize: async () => ({ principal: null }) });
  const refuse = createLoopbackCheck(address);
  const handle: RequestHandler = async (request, info) =>
    refuse(request) ?? (await shop?.handle(request)) ?? handler(request, info);
  return Object.assign(handle, handler);
}

/** In a POSIX shell. The commands find the database by the note in this folder; programs are told. */
const forPrograms = `  export DATABASE_URL=$(node -p "require('./.sluice/dev.json').connectionString")  # for your own programs`;

const hints = (url: string): string => `
Try, in another terminal in this folder:
  npx sluice append hello '{"n":1}'
  npx sluice tail hello --follow
  curl -N '${url}/v1/events?stream=hello&after=start'
${forPrograms}
Ctrl-C stops it.`;

const demoHints = (url: string): string => `
Open that page, or try, in another terminal in this folder:
  curl -N '${url}/v1/events?stream=demo-orders&after=start'
  npx sluice tail demo-orders --follow
  npx sluice append hello '{"n":1}'
${forPrograms}
Ctrl-C stops it.`;
