// Owns a Prisma client for tests, made as the code that `prisma generate` writes for a schema without models makes it:
// the same runtime, query compiler and configuration, and the same types of what the adapter touches. The generator
// itself is no dependency: it is large, wants a newer Node than ours and looks for an engine on the network.
import { createRequire } from 'node:module';
import { PrismaPg } from '@prisma/adapter-pg';
import { getPrismaClient, type ITXClientDenyList, type Types } from '@prisma/client/runtime/client';

/** As generated, without what the tests do not use. */
export interface PrismaClient {
  $queryRawUnsafe<T = unknown>(query: string, ...values: unknown[]): Types.Public.PrismaPromise<T>;
  $executeRawUnsafe(query: string, ...values: unknown[]): Types.Public.PrismaPromise<number>;
  $transaction<R>(run: (tx: TransactionClient) => Promise<R>): Promise<R>;
  $extends(extension: object): PrismaClient;
  $connect(): Promise<void>;
  $disconnect(): Promise<void>;
}

/** As generated: recent versions nest transactions, as savepoints, so it has `$transaction` too. */
export type TransactionClient = Omit<PrismaClient, ITXClientDenyList>;

declare const WebAssembly: { readonly Module: new (bytes: Uint8Array) => object };
const require = createRequire(import.meta.url);
const compiler = '@prisma/client/runtime/query_compiler_fast_bg.postgresql';

const Client = getPrismaClient({
  previewFeatures: [],
  clientVersion: '7.10.0',
  engineVersion: '0edf323efd1d98336f3f0a68684b56f689b900d3',
  activeProvider: 'postgresql',
  inlineSchema:
    'generator client {\n  provider = "prisma-client"\n}\n\ndatasource db {\n  provider = "postgresql"\n}\n',
  runtimeDataModel: { models: {}, enums: {}, types: {} },
  parameterizationSchema: { strings: [], graph: 'AAAA' },
  compilerWasm: {
    getRuntime: async () => require(`${compiler}.js`),
    getQueryCompilerWasmModule: async () =>
      new WebAssembly.Module(Buffer.from(require(`${compiler}.wasm-base64.js`).wasm, 'base64')),
    importName: './query_compiler_fast_bg.js',
  },
});

/** Connects with its first statement. */
export const createPrismaClient = (connectionString: string): PrismaClient =>
  new Client({ adapter: new PrismaPg({ connectionString }) }) as unknown as PrismaClient;
