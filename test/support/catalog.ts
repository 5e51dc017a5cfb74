// Owns describing a schema by the server's own catalogs: everything a migration decides, one line per fact, so that two
// installations can be compared, and everything that is granted, so that it can be found out who may do what.
import type { Queries } from './log-sql.ts';

/** Tables, columns, constraints, indexes, sequences and functions of a schema, with who may use them. */
export async function describeSchema(on: Queries, schema: string): Promise<string[]> {
  const { rows } = await on.query<{ fact: string }>(
    `with n as (select oid, nspacl from pg_namespace where nspname = $1)
     select fact from (
       select format('schema %s', nspacl) as fact from n
       union all
       select format('relation %s %s %s', c.relname, c.relkind, c.relacl)
       from pg_class c join n on n.oid = c.relnamespace
       union all
       select format('column %s.%s %s %s %s %s %s', c.relname, a.attnum, a.attname, format_type(a.atttypid, a.atttypmod),
         a.attnotnull, a.attidentity, (select collname from pg_collation l where l.oid = a.attcollation))
         || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')
       from pg_class c join n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid
       left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
       where a.attnum > 0 and c.relkind in ('r', 'p')
       union all
       select format('constraint %s %s', k.conname, pg_get_constraintdef(k.oid))
       from pg_constraint k join n on n.oid = k.connamespace
       union all
       select format('index %s', pg_get_indexdef(i.indexrelid))
       from pg_index i join pg_class c on c.oid = i.indexrelid join n on n.oid = c.relnamespace
       union all
       select format('sequence %s %s', c.relname, to_jsonb(s) - 'seqrelid')
       from pg_sequence s join pg_class c on c.oid = s.seqrelid join n on n.oid = c.relnamespace
       union all
       select format('function %s %s', p.proacl, pg_get_functiondef(p.oid))
       from pg_proc p join n on n.oid = p.pronamespace
     ) facts order by fact`,
    [schema],
  );
  return rows.map(({ fact }) => fact);
}

/** What everybody (PUBLIC) may do in a schema, its own use included. */
export async function grantedToPublic(on: Queries, schema: string): Promise<string[]> {
  const { rows } = await on.query<{ granted: string }>(
    `with n as (select * from pg_namespace where nspname = $1)
     select format('%s %s', x.privilege_type, o.name) as granted from (
       select 'schema' as name, coalesce(nspacl, acldefault('n', nspowner)) as acl from n
       union all
       select c.relname, coalesce(c.relacl, acldefault((case c.relkind when 'S' then 's' else 'r' end)::"char", c.relowner))
       from pg_class c join n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'S', 'v')
       union all
       select p.proname || '()', coalesce(p.proacl, acldefault('f', p.proowner))
       from pg_proc p join n on n.oid = p.pronamespace
     ) o cross join lateral aclexplode(o.acl) x where x.grantee = 0 order by 1`,
    [schema],
  );
  return rows.map(({ granted }) => granted);
}
