// `sluice/adapters`: the open transaction of a query builder or ORM as the `tx` of publish. Exports only; each library
// has a file in src/adapters, none of which imports it.
export { fromDrizzle, type DrizzleLike, type DrizzleSqlLike } from './adapters/drizzle.ts';
export { fromKnex, type KnexLike } from './adapters/knex.ts';
export { fromKysely, type KyselyLike } from './adapters/kysely.ts';
export { fromPostgresJs, type PostgresJsLike } from './adapters/postgres-js.ts';
export { fromPrisma, type PrismaLike } from './adapters/prisma.ts';
export { fromTypeOrm, type TypeOrmManagerLike, type TypeOrmRunnerLike } from './adapters/typeorm.ts';
export type { SqlExecutor } from './db/queryable.ts';
