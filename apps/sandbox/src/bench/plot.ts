const WIDTH = 820;
const ROW = 40;
const TOP = 56;
const LABEL = 150;
const PANEL = 300;
const GAP = 40;
const BAR = 22;

/** Colours for light and dark pages alike, because not every viewer tells an SVG which one it is on. */
const STYLE = `
  text { font: 13px system-ui, sans-serif; fill: #737d87 }
  .title { font-weight: 600 }
  .label { text-anchor: end }
  .axis { stroke: #737d87 }
  .rate { fill: #2f81f7 }
  .latency { fill: #d4622a }`;

interface Row {
  readonly name: string;
  readonly connections: number;
  readonly requestsPerSecond: number;
  /** In milliseconds. */
  readonly p99: number;
}

/** Bars of requests a second, and of p99 beside them, as SVG. */
export function plot(scenarios: readonly Row[]): string {
  const height = TOP + scenarios.length * ROW + 8;
  const rates = scenarios.map(({ requestsPerSecond }) => requestsPerSecond);
  const latencies = scenarios.map(({ p99 }) => p99);
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img">
  <title>Requests per second, and p99, of each scenario</title>
  <style>${STYLE}
  </style>
${scenarios.map(({ name, connections }, row) => text(LABEL - 10, row, `${name}, ${connections}`, 'label')).join('\n')}
${panel(LABEL, 'requests/s', 'rate', rates, (rate) => rate.toFixed(0))}
${panel(LABEL + PANEL + GAP, 'p99, milliseconds', 'latency', latencies, (latency) => latency.toFixed(1))}
</svg>
`;
}

function panel(x: number, title: string, style: string, values: readonly number[], show: (value: number) => string) {
  const most = Math.max(...values, Number.MIN_VALUE);
  const room = PANEL - 50; // for the number behind the longest bar
  const bars = values.map((value, row) => {
    const width = Math.round((value / most) * room);
    const y = TOP + row * ROW + (ROW - BAR) / 2;
    return `  <rect class="${style}" x="${x}" y="${y}" width="${width}" height="${BAR}" />\n${text(x + width + 6, row, show(value))}`;
  });
  return `  <text class="title" x="${x}" y="${TOP - 24}">${title}</text>
${bars.join('\n')}
  <line class="axis" x1="${x}" y1="${TOP}" x2="${x}" y2="${TOP + values.length * ROW}" />`;
}

function text(x: number, row: number, content: string, style?: string): string {
  const y = TOP + row * ROW + ROW / 2 + 5;
  return `  <text${style === undefined ? '' : ` class="${style}"`} x="${x}" y="${y}">${content}</text>`;
}
