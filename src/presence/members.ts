// Reading who is present: members of streams by the connections of processes whose lease runs. One with several
// connections is one member; its newest connection says its state.
import type { Database } from '../db/database.ts';
import { textArrayLiteral } from '../db/array-literal.ts';
import type { Members } from './roster.ts';

/** Members of one stream, at most; of more, the first by id are known. */
const MAX_MEMBERS = 50_000;

export interface PresentMember<State = unknown> {
  readonly id: string;
  readonly state: State;
}

/** All members of a stream. */
export async function loadMembers({ database, stream }: From): Promise<Members> {
  const { quoted } = database.names;
  const rows = await database.rows<[string, string]>(
    `select distinct on (p.member) p.member, p.state::text
     from ${quoted}.presence p join ${quoted}.presence_holders h on h.id = p.holder
     where p.stream = $1 and h.expires_at > clock_timestamp()
     order by p.member, p.joined_at desc limit ${MAX_MEMBERS}`,
    [stream],
    'sluice_members',
  );
  return new Map(rows);
}

/** Those of the named members who are there. */
export async function loadSome({ database, stream }: From, ids: ReadonlySet<string>): Promise<Members> {
  const { quoted } = database.names;
  const rows = await database.rows<[string, string]>(
    `select distinct on (p.member) p.member, p.state::text
     from ${quoted}.presence p join ${quoted}.presence_holders h on h.id = p.holder
     where p.stream = $1 and p.member = any ($2::text::text[]) and h.expires_at > clock_timestamp()
     order by p.member, p.joined_at desc`,
    [stream, textArrayLiteral([...ids])],
    'sluice_some_members',
  );
  return new Map(rows);
}

export async function countMembers({ database, stream }: From): Promise<number> {
  const { quoted } = database.names;
  const [row] = await database.query<{ count: string }>(
    `select count(distinct p.member)::text as count
     from ${quoted}.presence p join ${quoted}.presence_holders h on h.id = p.holder
     where p.stream = $1 and h.expires_at > clock_timestamp()`,
    [stream],
    'sluice_count_members',
  );
  return Number(row?.count ?? 0);
}

export interface From {
  readonly database: Database;
  readonly stream: string;
}
