// The benchmarks' command line: `npm run bench -- publish append --quick --json`. Starts one PostgreSQL server for all
// that were named, and prints the machine, the flush time of its disk and the results.
import { parseArgs } from 'node:util';
import { describeMachine } from './support/machine.mjs';
import { toTextReport, round } from './support/report.mjs';
import { openServer } from './support/server.mjs';

const benches = {
  publish: 'events/s published in transactions, beside a plain insert of the same row',
  append: 'events/s appended, beside raw inserts of the same rows',
  latency: 'publish and append to the callback in another process, beside a bare commit and NOTIFY',
  bus: 'LISTEN and NOTIFY over a bus, beside a bare pg client; and how soon it listens again after a fault',
  catchup: 'replaying a long stream through subscribe, beside a raw cursor over the same rows',
  groups: 'consumer groups, beside pg-boss, graphile-worker, the SQL of pgmq and what one writes by hand',
  bloat: 'publishing and relaying behind a snapshot held while two million events pass',
  retention: 'appends while old events go, beside the same appends while none do',
  fanout: 'one stream to thousands of connections, beside a bare node:http server and better-sse',
  storm: 'thousands of clients that come back at once, beside a bare node:http server',
  slow: 'delivery latency beside clients that do not read, beside the same without them',
  size: 'candidates for how events are stored, with 100 000 streams and ten million events each',
  storage: 'candidates for how events and the outbox are stored',
};

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean', default: false }, json: { type: 'boolean', default: false } },
});
const names = positionals.includes('all') ? Object.keys(benches) : positionals;
const unknown = names.filter((name) => !(name in benches));

if (names.length === 0 || unknown.length > 0) {
  for (const name of unknown) console.error(`there is no benchmark ${JSON.stringify(name)}`);
  console.log('npm run bench -- <name>… [--quick] [--json]\n');
  for (const [name, about] of Object.entries({ ...benches, all: 'all of them' })) {
    console.log(`  ${name.padEnd(10)}${about}`);
  }
  process.exitCode = unknown.length > 0 ? 1 : 0;
} else {
  await run();
}

/** What a long benchmark has measured so far. @param {string} line */
function tell(line) {
  if (!values.json) console.log(line);
}

async function run() {
  const server = await openServer();
  const results = [];
  try {
    const machine = { ...describeMachine(), postgres: server.version, settings: server.settings };
    if (!values.json) console.log(machineLine(machine));
    for (const name of names) {
      /** @type {{ run: (context: object) => Promise<import('./support/report.mjs').Report> }} */
      const bench = await import(`./${name}.mjs`);
      const flushMs = server.flushMs();
      if (!values.json) console.log(`\n## ${name}\n\nflush: ${flushText(flushMs)}`);
      const started = performance.now();
      const report = await bench.run({ server, quick: values.quick, tell });
      const seconds = Math.round((performance.now() - started) / 1000);
      results.push({ name, flushMs, flushAfterMs: server.flushMs(), seconds, ...report });
      if (!values.json) console.log(toTextReport(report), `\n(${seconds} s)`);
    }
    if (values.json) console.log(JSON.stringify({ at: new Date().toISOString(), machine, results }, null, 2));
  } finally {
    await server.stop();
  }
}

/** @param {number | null} ms */
function flushText(ms) {
  return ms === null
    ? 'not measured: the data is not on a disk of this machine'
    : `${round(ms)} ms, median of 200 pages`;
}

/** @param {ReturnType<typeof describeMachine> & { postgres: string, settings: Readonly<Record<string, string>> }} machine */
function machineLine({ cores, processor, memoryGiB, system, node, load, postgres, settings }) {
  const set = Object.entries(settings).map(([name, value]) => `${name} ${value}`);
  return (
    `${cores} cores (${processor}), ${memoryGiB} GiB, ${system}, Node ${node}, PostgreSQL ${postgres}\n` +
    `${set.join(', ')}; load at the start ${load}`
  );
}
