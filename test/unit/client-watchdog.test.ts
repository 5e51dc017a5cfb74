// Guards the watchdog of the client's connections: a heartbeat now and then keeps it quiet, silence ends a connection and
// makes another (I2). Time is the test's own; the network is a fetch that says what it is told to.
import { createClient } from 'sluice/client';
import { expect, onTestFinished, test, vi } from 'vitest';

test('I2: heartbeats keep the watchdog quiet; after its time of silence there is another connection', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'Date'] });
  onTestFinished(() => void vi.useRealTimers());
  const connections: ReadableStreamDefaultController<Uint8Array>[] = [];
  const headers = { 'content-type': 'text/event-stream' };
  const client = createClient({
    url: 'http://localhost/v1/events',
    watchdogMs: 1000,
    backoff: { initialMs: 10, maxMs: 10 },
    fetch: async () =>
      new Response(new ReadableStream({ start: (stream) => void connections.push(stream) }), { headers }),
  });
  onTestFinished(() => void client.close());
  client.subscribe('any');
  await vi.advanceTimersByTimeAsync(0);
  expect(client.status.get().state).toBe('live');
  for (let beat = 0; beat < 10; beat += 1) {
    await vi.advanceTimersByTimeAsync(999);
    connections[0]?.enqueue(new TextEncoder().encode(': keep-alive\n\n'));
    await vi.advanceTimersByTimeAsync(0);
  }
  expect([client.status.get().state, connections.length]).toEqual(['live', 1]);
  await vi.advanceTimersByTimeAsync(1000);
  expect(client.status.get().problem?.detail).toBe('silent for 1000 ms');
  await vi.advanceTimersByTimeAsync(10);
  expect([client.status.get().state, connections.length]).toEqual(['live', 2]);
});
