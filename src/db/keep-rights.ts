// What was granted outlives an upgrade: a right is a list of privileges (sql/functions/rights.sql), and a newer package
// may need more of them, or replace a function and with it what was granted on it. Who held a whole right before the
// migration is granted it again after. Grants nobody anything new in kind.
import type { Names } from './names.ts';
import type { Queryable } from './queryable.ts';

/** Who may do what. */
export interface Holder {
  readonly role: string;
  readonly right: string;
}

/** Who holds which right whole, by a grant; the owner and superusers need none. Empty where nothing is installed. */
export async function rightsHeld(client: Queryable, names: Names): Promise<Holder[]> {
  const known = await client.query({
    text: 'select to_regprocedure($1) is not null as known',
    values: [`${names.quoted}.rights(text)`],
  });
  if (!(known.rows[0] as { known: boolean }).known) return [];
  // Every right takes the use of the schema, so whoever holds one is found among those who were granted that.
  const { rows } = await client.query({
    text: `select h.role, m.may as right
      from pg_namespace n cross join lateral aclexplode(n.nspacl) x
      cross join lateral (
        select r.rolname::text from pg_roles r where r.oid = x.grantee and r.oid <> n.nspowner and not r.rolsuper
        union all select 'public' where x.grantee = 0 -- everybody
      ) h (role)
      cross join lateral ${names.quoted}.rights(h.role) m
      where n.nspname = $1 and x.privilege_type = 'USAGE'
      group by h.role, m.may having bool_and(m.held)`,
    values: [names.schema],
  });
  return rows as Holder[];
}

/** Grants them again, as the package's own lists have it. */
export async function grantAgain(client: Queryable, names: Names, held: readonly Holder[]): Promise<void> {
  for (const { role, right } of held) {
    await client.query({ text: `select ${names.quoted}.grant_right($1, $2)`, values: [role, right] });
  }
}
