import { readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import type { Client } from 'pg';
import prettier from 'prettier';
import type { Measurement } from './load';
import { plot } from './plot';

const DOCUMENT = 'docs/performance.md';
const PLOT = 'docs/performance.svg';
const DATA = 'docs/performance.json';

/** The measurement of one scenario. */
export interface Scenario extends Measurement {
  readonly name: string;
  readonly connections: number;
}

export type Machine = Awaited<ReturnType<typeof machine>>;

/** The hardware and versions for which the numbers hold. */
export async function machine(database: Client) {
  const { rows } = await database.query<{ server_version: string }>('SHOW server_version');
  return {
    date: new Date().toISOString().slice(0, 10),
    cpu: os.cpus()[0]?.model.trim() ?? 'unknown',
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    os: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.versions.node,
    postgres: rows[0]?.server_version ?? 'unknown',
  };
}

/** As Markdown, which is also what a terminal shows. */
export function table(scenarios: readonly Scenario[]): Promise<string> {
  const rows = scenarios.map(({ name, connections, requestsPerSecond, p50, p95, p99, max, errors }) => [
    name,
    connections,
    requestsPerSecond.toFixed(0),
    ...[p50, p95, p99, max].map((latency) => `${latency.toFixed(1)} ms`),
    showErrors(errors),
  ]);
  const header = ['scenario', 'connections', 'requests/s', 'p50', 'p95', 'p99', 'max', 'errors'];
  const alignment = header.map((_, column) => (column === 0 ? '---' : '---:'));
  const lines = [header, alignment, ...rows].map((cells) => `| ${cells.join(' | ')} |`);
  return prettier.format(lines.join('\n'), { parser: 'markdown' });
}

/** For example `0`, or `12 × 503`. */
export function showErrors(errors: Measurement['errors']): string {
  const kinds = Object.entries(errors).map(([kind, count]) => `${count} × ${kind}`);
  return kinds.join(', ') || '0';
}

interface Procedure {
  readonly warmUpSeconds: number;
  readonly seconds: number;
  readonly orders: number;
}

/** Writes the results into the document, as a plot, and as JSON. */
export async function writeBench(about: Machine, procedure: Procedure, scenarios: readonly Scenario[]): Promise<void> {
  await write(DATA, JSON.stringify({ machine: about, ...procedure, scenarios: scenarios.map(rounded) }));
  writeFileSync(PLOT, plot(scenarios));
  const generator = Math.max(...scenarios.map(({ generatorCpuPercent }) => generatorCpuPercent));
  await replaceGenerated('bench', [
    describe(about),
    `- ${procedure.orders} orders at the start; each scenario ${procedure.seconds} s after ${procedure.warmUpSeconds} s of warm-up`,
    `- the load generator took up to ${generator.toFixed(0)} % of a core`,
    '',
    await table(scenarios),
    `![Requests per second, and p99, of each scenario](performance.svg)`,
  ]);
  console.log(`Written: ${DOCUMENT}, ${PLOT}, ${DATA}`);
}

export async function writeSoak(about: Machine, report: string): Promise<void> {
  await replaceGenerated('soak', [describe(about), '', report]);
  console.log(`Written: ${DOCUMENT}`);
}

const describe = ({ date, cpu, cores, memoryGiB, os, node, postgres }: Machine) =>
  `- ${date}: ${cpu}, ${cores} cores, ${memoryGiB} GiB of memory; ${os}\n- Node.js ${node}, PostgreSQL ${postgres}`;

const rounded = (scenario: Scenario) =>
  Object.fromEntries(
    Object.entries(scenario).map(([name, value]) => [
      name,
      typeof value === 'number' ? Math.round(value * 100) / 100 : value,
    ]),
  );

async function replaceGenerated(name: string, lines: readonly string[]): Promise<void> {
  await write(DOCUMENT, withGenerated(readFileSync(DOCUMENT, 'utf8'), name, lines.join('\n')));
}

/**
 * @returns the document, with the text between the two marks of that name replaced
 * @throws {Error} when the marks are missing
 */
export function withGenerated(document: string, name: string, text: string): string {
  const [begin, end] = [`<!-- ${name}: begin -->`, `<!-- ${name}: end -->`];
  const [before, rest] = document.split(begin);
  const after = rest?.split(end)[1];
  if (before === undefined || after === undefined) throw new Error(`${DOCUMENT} has lost its marks ${begin}, ${end}`);
  return `${before}${begin}\n\n${text}\n\n${end}${after}`;
}

/** Formats the text as `npm run lint` requires it. */
async function write(file: string, text: string): Promise<void> {
  writeFileSync(file, await prettier.format(text, { ...(await prettier.resolveConfig(file)), filepath: file }));
}
