// Owns the browser of a test file: one headless Chromium for its tests, a fresh context for every page. Finding or
// installing it is chromium-setup.ts; where that found none, every test of the file reports as skipped.
// An uncaught error in a page fails the test, since nobody would see it otherwise.
import {
  chromium,
  type Browser,
  type BrowserContext,
  type BrowserContextOptions,
  type Page,
} from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';

export interface TestBrowser {
  /** Whoever asks for it closes it. */
  newContext(options?: BrowserContextOptions): Promise<BrowserContext>;
  /** A page in a context of its own, closed after the test. */
  newPage(options?: BrowserContextOptions): Promise<Page>;
  /** Stops every process of the browser during `work`, as a laptop that sleeps does; ask nothing of pages meanwhile. */
  asleep(work: () => Promise<void>): Promise<void>;
}

interface ProcessInfo {
  readonly type: string;
  readonly id: number;
}

/** For what hangs, as in diagnostics.ts: a slow machine takes its time to start pages. */
const deadlineMs = 60_000;

// No sandbox for root, which Chromium refuses otherwise; the rest keeps it from talking to anyone but the test.
const args = [
  ...(process.getuid?.() === 0 ? ['--no-sandbox'] : []),
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * Gives the test file a browser, from its first test on. Call it once, at the top of the file or of a `describe`.
 *
 * @example
 * const browser = useBrowser();
 * test('…', async () => {
 *   const page = await browser.newPage();
 *   await page.goto(url);
 * });
 */
export const useBrowser = (): TestBrowser => {
  const executablePath = process.env['CHROMIUM_PATH'];
  let launched: Browser | undefined;
  let contexts: BrowserContext[] = [];
  let pageErrors: Error[] = [];
  const get = (): Browser => {
    if (launched === undefined) throw new Error('the browser exists only inside hooks and tests');
    return launched;
  };
  const newContext: TestBrowser['newContext'] = async (options) => {
    const context = await get().newContext(options);
    context.setDefaultTimeout(deadlineMs);
    return context;
  };

  beforeAll(async () => {
    if (executablePath === undefined) return;
    launched = await chromium.launch({ executablePath, headless: true, args, timeout: deadlineMs });
  });
  afterAll(() => launched?.close());
  beforeEach((context) => {
    if (executablePath === undefined) context.skip('no Chromium');
  });
  afterEach(async () => {
    const errors = pageErrors;
    await Promise.all(contexts.map((context) => context.close()));
    contexts = [];
    pageErrors = [];
    if (errors.length > 0) throw new AggregateError(errors, `a page threw: ${errors.join('; ')}`);
  });

  return {
    newContext,
    newPage: async (options) => {
      const context = await newContext(options);
      contexts.push(context);
      context.on('weberror', (webError) => pageErrors.push(webError.error()));
      return context.newPage();
    },
    asleep: async (work) => {
      const session = await get().newBrowserCDPSession();
      const { processInfo } = (await session.send('SystemInfo.getProcessInfo')) as {
        processInfo: readonly ProcessInfo[];
      };
      const main = processInfo.find(({ type }) => type === 'browser')!;
      // Playwright starts it as the leader of a group of its own, which all its processes stay in.
      process.kill(-main.id, 'SIGSTOP');
      try {
        await work();
      } finally {
        process.kill(-main.id, 'SIGCONT');
      }
    },
  };
};
