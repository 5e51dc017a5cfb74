// The live list. Holds at most `maxRows` rows in the document and as many waiting for the next frame, however fast
// events arrive; a burst costs one document change per frame. It must never put text from an event into the document
// as anything but text.

import type { EventItem } from '../../../client.ts';

const maxRows = 50;

/** Only this few new rows at a time are pointed out; during a burst everything is new and the eye needs rest. */
const maxHighlighted = 3;

/** What an order of this shop carries. Anything else in the stream was published by somebody else. */
export interface Order {
  readonly id: number;
  readonly item: string;
  readonly quantity: number;
}

/** The order in an event, or null when the event is not one. */
export function orderOf(event: EventItem): Order | null {
  if (event.type !== 'order.placed' || typeof event.data !== 'object' || event.data === null) return null;
  const { id, item, quantity } = event.data as Partial<Order>;
  if (typeof id !== 'number' || typeof item !== 'string' || typeof quantity !== 'number') return null;
  return { id, item, quantity };
}

export interface Rows {
  /** Keeps an event for the next `render`. */
  add(event: EventItem): void;
  /** Empties the list: what it shows belongs to a history that is gone. */
  clear(): void;
  /** Brings the document up to date; call it once per frame. */
  render(): void;
}

/** Manages the rows of `list`, newest first, made from `template`. */
export function createRows(list: HTMLElement, template: HTMLTemplateElement): Rows {
  let waiting: EventItem[] = [];
  return {
    add(event): void {
      waiting.push(event);
      if (waiting.length > maxRows) waiting.shift();
    },
    clear(): void {
      waiting = [];
      list.replaceChildren();
    },
    render(): void {
      if (waiting.length === 0) return;
      const fresh = waiting.length <= maxHighlighted && list.childElementCount > 0;
      const rows = waiting.reverse().map((event) => createRow(template, event, fresh));
      waiting = [];
      list.prepend(...rows);
      while (list.childElementCount > maxRows) list.lastElementChild?.remove();
    },
  };
}

function createRow(template: HTMLTemplateElement, event: EventItem, fresh: boolean): Element {
  const row = (template.content.cloneNode(true) as DocumentFragment).firstElementChild;
  if (!row) throw new Error('The row template is empty.');
  const offset = String(event.offset);
  row.setAttribute('data-offset', offset);
  row.classList.toggle('fresh', fresh);
  const order = orderOf(event);
  const fields: Record<string, string> = {
    offset,
    item: order ? order.item : (JSON.stringify(event.data) ?? ''),
    quantity: order ? `× ${order.quantity}` : '',
    source: order ? `order ${order.id}` : (event.type ?? 'not from this shop'),
    at: clock.format(event.at),
  };
  for (const [name, text] of Object.entries(fields)) {
    const field = row.querySelector(`[data-field="${name}"]`);
    if (field) field.textContent = text;
  }
  return row;
}

const clock = new Intl.DateTimeFormat(undefined, { timeStyle: 'medium', hourCycle: 'h23' });
