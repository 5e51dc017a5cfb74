// A process that moves what outbox_by_hand holds, again and again, as the relay does with Sluice's outbox.
import { setTimeout } from 'node:timers/promises';
import { Client } from 'pg';
import { serve } from '../support/role.mjs';
import { moveByHand } from '../support/tables.mjs';

/** Between two passes, in milliseconds: about as often as the relay passes under load. */
const PAUSE_MS = 20;

/** @type {Client} */
let client;
/** @type {AbortController | undefined} */
let running;
/** @type {Promise<void>} */
let moving;

const pass = () => client.query({ name: 'move', text: moveByHand });

serve({
  /** @param {string} url */
  async open(url) {
    client = new Client({ connectionString: url });
    await client.connect();
  },
  start() {
    const { signal } = (running = new AbortController());
    moving = (async () => {
      while (!signal.aborted) {
        await pass();
        await setTimeout(PAUSE_MS);
      }
    })();
  },
  /** Resolves when what was committed before is moved. */
  async stop() {
    running?.abort();
    await moving;
    await pass();
  },
  close: () => client.end(),
});
