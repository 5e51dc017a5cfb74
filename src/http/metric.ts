// One metric: its name, what it says, and how its value is found when somebody asks; in the shape that prom-client's
// registries ask of those they hold. Counts nothing itself. Pure but for what is read.
import type { HistogramStats } from './histogram.ts';

type Labels = Readonly<Record<string, string | number>>;

export interface Sample {
  readonly metricName?: string;
  readonly labels: Labels;
  readonly value: number;
}

type Type = 'counter' | 'gauge' | 'histogram';

export interface Metric {
  readonly type: Type;
  readonly name: string;
  readonly help: string;
  read(this: void): Promise<readonly Sample[]>;
}

/** Milliseconds told in seconds. */
export const inSeconds = ({ count, sum, buckets }: HistogramStats): HistogramStats => ({
  count,
  sum: sum / 1000,
  buckets: buckets.map(({ le, count }) => ({ le: le / 1000, count })),
});

type Value = number | readonly Sample[];

export const gauge = (name: string, help: string, read: () => Value | Promise<Value>): Metric => ({
  type: 'gauge',
  name,
  help,
  read: async () => samplesOf(await read()),
});

export const counter = (name: string, help: string, read: () => Value): Metric => ({
  type: 'counter',
  name,
  help,
  read: async () => samplesOf(read()),
});

export const histogram = (name: string, help: string, read: () => HistogramStats): Metric => ({
  type: 'histogram',
  name,
  help,
  read: async () => {
    const { count, sum, buckets } = read();
    return [
      ...buckets.map(({ le, count }) => ({
        metricName: `${name}_bucket`,
        labels: { le: le === Infinity ? '+Inf' : le },
        value: count,
      })),
      { metricName: `${name}_sum`, labels: {}, value: sum },
      { metricName: `${name}_count`, labels: {}, value: count },
    ];
  },
});

/** What a registry asks of those it holds. One of its own: a registry that writes OpenMetrics changes their names. */
export const registered = ({ type, name, help, read }: Metric): object => ({
  type,
  name,
  async get(this: { readonly name: string }) {
    return { name: this.name, help, type, aggregator: 'sum', values: await read() };
  },
  reset: () => {}, // what has happened stays so
});

const samplesOf = (value: Value): readonly Sample[] =>
  typeof value === 'number' ? [{ labels: {}, value }] : value;

/** One sample for each key. */
export const labelled = (label: string, counts: Iterable<readonly [string, number]>): Sample[] =>
  Array.from(counts, ([key, value]) => ({ labels: { [label]: key }, value }));
