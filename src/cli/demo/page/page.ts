// Wires the page: what arrives goes to the ledger and the list, what the visitor does goes to the shop. The document
// changes once per animation frame at most, whatever the rate of events. It must never count an order as delivered
// because placing it succeeded: only the stream says so.

import type { EventItem, LossItem } from '../../../client.ts';
import { messageOf } from '../../../util/errors.ts';
import {
  burst,
  placeForLater,
  placeOrder,
  readState,
  rollBackOrder,
  type NewOrder,
  type ShopState,
} from './api.ts';
import { openFeed, type Feed } from './feed.ts';
import {
  committed,
  deliver,
  openLedger,
  outstanding,
  report,
  verdict,
  type Ledger,
  type Status,
} from './ledger.ts';
import { createRows, orderOf } from './rows.ts';

/** How often the page asks what is committed, and looks again whether anything is overdue. */
const refreshMs = 1_000;
const burstSize = 1_000;

const text = {
  status: byId('status'),
  verdict: byId('verdict'),
  later: byId('later'),
  committed: byId('committed'),
  delivered: byId('delivered'),
  gaps: byId('gaps'),
  duplicates: byId('duplicates'),
  lastOffset: byId('last-offset'),
  origin: byId('origin'),
  streamName: byId('stream-name'),
  activity: byId('activity'),
};
const connection = byId('connection');
const verdictLine = byId('verdict-line');
const form = byId('order', HTMLFormElement);
const item = byId('item', HTMLSelectElement);
const quantity = byId('quantity', HTMLInputElement);
const laterButton = byId('place-later', HTMLButtonElement);
const rollBackButton = byId('roll-back', HTMLButtonElement);
const burstButton = byId('burst', HTMLButtonElement);
const dropButton = byId('drop', HTMLButtonElement);
const rows = createRows(byId('feed'), byId('row', HTMLTemplateElement));

let ledger: Ledger = openLedger(0n, 0n);
let status: Status = 'connecting';
/** Orders whose events are not due yet, as last reported: neither committed nor owed, as far as the count goes. */
let later = 0;
/** Since when the page has been live and owed an event without a delivery. */
let quietSince = performance.now();
let feed: Feed | null = null;
let frame = 0;
let refreshing = false;
let refreshAgain = false;
/** Said with every rollback, so that the second one is not mistaken for the first. */
let rollbacks = 0;

function render(): void {
  frame = 0;
  const { tally } = ledger;
  const { text: words, tone } = verdict(ledger, status, performance.now() - quietSince);
  write(text.status, status);
  connection.dataset['state'] = status;
  write(text.verdict, words);
  verdictLine.dataset['tone'] = tone;
  write(text.later, later === 0 ? '' : `${later} for later`);
  write(text.committed, String(committed(ledger) ?? '–'));
  write(text.delivered, String(tally.delivered));
  write(text.gaps, String(tally.gaps));
  write(text.duplicates, String(tally.duplicates));
  write(text.lastOffset, String(tally.last));
  write(dropButton, status === 'dropped' ? 'Reconnect' : 'Drop connection');
  rows.render();
}

function schedule(): void {
  if (frame === 0) frame = requestAnimationFrame(render);
}

function onEvent(event: EventItem): void {
  ledger = deliver(ledger, event.offset, orderOf(event) !== null);
  quietSince = performance.now();
  rows.add(event);
  schedule();
  // Caught up for the first time: only now can a report tell what was there before.
  const caughtUp = ledger.baseline === null && ledger.tally.last === ledger.head;
  // This may be one of those for later, which would still be called waiting.
  if (caughtUp || later > 0) void refresh();
}

/** History the page stood on is gone: say so, and count what follows, rather than call it a loss or hide it. */
function onLoss({ kind, oldest, head }: LossItem): void {
  startCounting(oldest - 1n, head);
  if (kind === 'reset') rows.clear();
  const reason = kind === 'gap' ? 'Older events were trimmed away' : 'The stream was created anew';
  write(text.activity, `${reason}; the page counts again from offset ${oldest}.`);
}

function onStatus(next: Status): void {
  status = next;
  quietSince = performance.now();
  schedule();
}

function onEnd({ message }: Error): void {
  write(text.activity, `The page has stopped reading: ${message}`);
}

function startCounting(after: bigint, head: bigint): void {
  ledger = openLedger(after, head, ledger);
  write(
    text.origin,
    `Committed is what the database says, delivered is what arrived here, both from offset ${after + 1n} on.`,
  );
  schedule();
}

/** Asks what is committed; asked again meanwhile, once more afterwards. */
async function refresh(): Promise<void> {
  if (document.hidden && feed) return;
  if (refreshing) {
    refreshAgain = true;
    return;
  }
  refreshing = true;
  let asked = ledger;
  try {
    const state = await readState();
    if (!feed) {
      start(state);
      asked = ledger;
    }
    later = state.later;
    // Patience begins when something is owed, not when the shop fell quiet.
    if (outstanding(ledger) === 0) quietSince = performance.now();
    ledger = report(ledger, { orders: state.orders, head: BigInt(state.head) }, asked);
  } catch {
    // No answer means no news: the status shows the connection, and the next tick asks again.
  } finally {
    refreshing = false;
    schedule();
  }
  if (refreshAgain) {
    refreshAgain = false;
    await refresh();
  }
}

function start(state: ShopState): void {
  startCounting(BigInt(state.cursorHint), BigInt(state.head));
  write(text.streamName, state.stream);
  const { stream, cursorHint: after } = state;
  feed = openFeed({ stream, after, onEvent, onLoss, onStatus, onEnd });
}

/** Runs what a control asks for and says what came of it. */
async function run(action: () => Promise<string>): Promise<void> {
  let outcome: string;
  try {
    outcome = await action();
  } catch (error) {
    outcome = messageOf(error);
  }
  write(text.activity, outcome);
  await refresh();
}

function filledIn(): NewOrder {
  return { item: item.value, quantity: quantity.valueAsNumber };
}

async function runBurst(): Promise<string> {
  burstButton.setAttribute('aria-disabled', 'true');
  write(text.activity, `Placing ${burstSize} orders…`);
  try {
    const result = await burst(burstSize);
    return `${result.committed} committed, ${result.rolledBack} rolled back.`;
  } finally {
    burstButton.removeAttribute('aria-disabled');
  }
}

form.addEventListener('submit', (event) => {
  event.preventDefault();
  void run(async () => `Order ${(await placeOrder(filledIn())).id} committed.`);
});

laterButton.addEventListener('click', () => {
  if (!form.reportValidity()) return;
  void run(async () => {
    const { id, delayMs } = await placeForLater(filledIn());
    return `Order ${id} committed, due in ${delayMs / 1_000}\u00a0s.`;
  });
});

rollBackButton.addEventListener('click', () => {
  if (!form.reportValidity()) return;
  void run(async () => {
    await rollBackOrder(filledIn());
    return `Rolled back (${++rollbacks}): no row, no event.`;
  });
});

burstButton.addEventListener('click', () => {
  // Not `disabled`: that would take the focus away from whoever works with the keyboard.
  if (burstButton.getAttribute('aria-disabled') !== 'true') void run(runBurst);
});

dropButton.addEventListener('click', () => {
  if (status === 'dropped') feed?.resume();
  else feed?.drop();
});

document.addEventListener('visibilitychange', () => void refresh());
window.setInterval(() => void refresh(), refreshMs);
void refresh();

/** Leaves equal text alone, so that a screen reader announces only what changed. */
function write(element: HTMLElement, words: string): void {
  if (element.textContent !== words) element.textContent = words;
}

function byId(id: string): HTMLElement;
function byId<T extends HTMLElement>(id: string, kind: abstract new () => T): T;
function byId(id: string, kind: abstract new () => HTMLElement = HTMLElement): HTMLElement {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new TypeError(`The page has no ${kind.name} with the id "${id}".`);
  return element;
}
