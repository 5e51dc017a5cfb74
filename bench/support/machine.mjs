// Owns the line that says where a figure was measured: without it a rate means nothing.
import { arch, cpus, loadavg, platform, totalmem } from 'node:os';

/** What the figures depend on beside the code; `load` tells whether the machine was quiet. */
export function describeMachine() {
  const processors = cpus();
  return {
    cores: processors.length,
    processor: processors[0]?.model.trim() ?? 'unknown',
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    system: `${platform()} ${arch()}`,
    node: process.versions.node,
    load: Number(loadavg()[0]?.toFixed(2)),
  };
}
