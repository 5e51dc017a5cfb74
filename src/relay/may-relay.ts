// Whether this session's user may move published events and tidy up after them. One who may only publish or read is a
// full member all the same; others have to do that work.
import type { Database } from '../db/database.ts';

export async function mayRelay(database: Database): Promise<boolean> {
  const { quoted } = database.names;
  const [row] = await database.query<{ may: boolean }>(
    `select has_table_privilege($1, 'delete') and has_table_privilege($2, 'insert') and (
       select coalesce(bool_and(has_function_privilege(p.oid, 'execute')), false) from pg_proc p
       where p.pronamespace = to_regnamespace($3) and p.proname in ('pass', 'move_pending')
     ) as may`,
    [`${quoted}.outbox`, `${quoted}.events`, quoted],
  );
  return row?.may === true;
}
