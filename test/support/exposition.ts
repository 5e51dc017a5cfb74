// Owns a strict reader of Prometheus' text format, version 0.0.4: what it does not know is an error, as is whatever the
// format forbids: a metric told twice or without HELP and TYPE, a sample of another metric in between, a label twice, a
// histogram that falls, lacks +Inf, or does not add up; and what the naming conventions ask of counters and units.

export interface Metric {
  readonly type: string;
  readonly help: string;
  /** By name and labels as they stand, such as `a_total{by="relay"}`. */
  readonly samples: Map<string, number>;
}

const HELP = /^# HELP ([a-z_:][a-z0-9_:]*) (\S.*)$/;
const TYPE = /^# TYPE ([a-z_:][a-z0-9_:]*) (counter|gauge|histogram)$/;
const SAMPLE = /^([a-z_:][a-z0-9_:]*)(\{(.*)\})? (\S+)$/;
const LABEL = /^([a-z_][a-z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/;

/** @throws Error for a line that the format does not have, or a metric that it forbids */
export function parseExposition(text: string): Map<string, Metric> {
  if (!text.endsWith('\n')) throw new Error('the last line does not end');
  const metrics = new Map<string, Metric>();
  let name = '';
  let help = '';
  for (const line of text.split('\n')) {
    const [, helped, words = ''] = HELP.exec(line) ?? [];
    const [, typed, type = ''] = TYPE.exec(line) ?? [];
    if (line === '') continue;
    if (helped !== undefined) [name, help] = [helped, words];
    else if (typed !== undefined) {
      if (typed !== name || metrics.has(name)) throw new Error(`out of place: ${line}`);
      metrics.set(name, { type, help, samples: new Map() });
    } else addSample(metrics.get(name), name, line);
  }
  for (const [each, metric] of metrics) check(each, metric);
  return metrics;
}

function addSample(metric: Metric | undefined, metricName: string, line: string): void {
  const [, name = '', braces = '', labels = '', number = ''] = SAMPLE.exec(line) ?? [];
  const suffixes = metric?.type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
  if (!metric || !suffixes.some((suffix) => name === metricName + suffix)) {
    throw new Error(`no sample of ${metricName}: ${line}`);
  }
  const names = labelNames(labels);
  if (new Set(names).size !== names.length) throw new Error(`a label twice: ${line}`);
  const value =
    number === 'Nan' || number === 'NaN' ? Number.NaN : Number(number.replace('+Inf', 'Infinity'));
  if (number === '' || (Number.isNaN(value) && !/^nan$/i.test(number))) throw new Error(`no number: ${line}`);
  if (metric.samples.has(name + braces)) throw new Error(`told twice: ${line}`);
  metric.samples.set(name + braces, value);
}

function labelNames(text: string): string[] {
  const names: string[] = [];
  for (let rest = text; rest !== '';) {
    const match = LABEL.exec(rest);
    if (!match) throw new Error(`not labels: ${text}`);
    names.push(match[1] ?? '');
    rest = rest.slice(match[0].length);
  }
  return names;
}

function check(name: string, { type, samples }: Metric): void {
  if ((type === 'counter') !== name.endsWith('_total')) throw new Error(`${name} is a ${type}`);
  if (/_(?:ms|milliseconds|minutes|kilobytes|percent)(?:_|$)/.test(name))
    throw new Error(`${name}: base units`);
  const fallen = [...samples].find(([, value]) => type !== 'gauge' && !(value >= 0));
  if (fallen) throw new Error(`${fallen[0]} is ${fallen[1]}`);
  if (type !== 'histogram') return;
  const buckets = [...samples].filter(([key]) => key.startsWith(`${name}_bucket`));
  const bounds = buckets.map(([key]) => Number(/le="([^"]+)"/.exec(key)?.[1]?.replace('+Inf', 'Infinity')));
  const counts = buckets.map(([, count]) => count);
  const rises = (values: readonly number[], strictly: boolean): boolean =>
    values.every((value, index) => {
      const before = values[index - 1] ?? -Infinity;
      return strictly ? value > before : value >= before;
    });
  if (!rises(bounds, true) || !rises(counts, false)) throw new Error(`${name} falls`);
  const of = (suffix: string): number | undefined =>
    [...samples].find(([key]) => key.startsWith(name + suffix))?.[1];
  if (bounds.at(-1) !== Infinity || counts.at(-1) !== of('_count'))
    throw new Error(`${name} does not add up`);
  if (of('_sum') === undefined) throw new Error(`${name} has no sum`);
}
