// Many orders at once: transactions of random size that race on a few connections and are not all committed, which is
// what makes ids commit out of order. It must never leave a transaction running after it has answered.

import type { Pool } from 'pg';
import type { NewOrder } from './body.ts';
import { placeOrders, type Ending, type ShopStream } from './orders.ts';

const connections = 4;
const maxOrdersPerTransaction = 25;
const rolledBackShare = 0.15;
const items = [
  'Darjeeling, first flush',
  'Sourdough loaf',
  'Olive oil, half a litre',
  'Beeswax candle',
  'Fountain pen',
];

export interface PlannedTransaction {
  readonly size: number;
  readonly ending: Ending;
}

export interface BurstResult {
  readonly committed: number;
  readonly rolledBack: number;
}

/**
 * Splits `count` orders into transactions. The first one commits, so that something always appears; of three or more,
 * the last rolls back, so that something always does not. `random` is as Math.random.
 */
export function planBurst(count: number, random: () => number): PlannedTransaction[] {
  const plan: PlannedTransaction[] = [];
  for (let left = count; left > 0;) {
    const size = Math.min(left, 1 + Math.floor(random() * maxOrdersPerTransaction));
    const ending = plan.length > 0 && random() < rolledBackShare ? 'rollback' : 'commit';
    plan.push({ size, ending });
    left -= size;
  }
  const last = plan.at(-1);
  if (last && plan.length > 2) plan[plan.length - 1] = { ...last, ending: 'rollback' };
  return plan;
}

/** Places `count` orders, committed and rolled back ones together. */
export async function runBurst(pool: Pool, stream: ShopStream, count: number): Promise<BurstResult> {
  const queue = planBurst(count, Math.random);
  const result = { committed: 0, rolledBack: 0 };
  const work = async (): Promise<void> => {
    for (let next = queue.shift(); next; next = queue.shift()) {
      await placeOrders(pool, stream, Array.from({ length: next.size }, someOrder), {
        ending: next.ending,
      });
      result[next.ending === 'commit' ? 'committed' : 'rolledBack'] += next.size;
    }
  };
  const ends = await Promise.allSettled(Array.from({ length: connections }, work));
  const failed = ends.find((end) => end.status === 'rejected');
  if (failed) throw failed.reason;
  return result;
}

function someOrder(): NewOrder {
  return {
    item: items[Math.floor(Math.random() * items.length)] ?? 'Fountain pen',
    quantity: 1 + Math.floor(Math.random() * 9),
  };
}
