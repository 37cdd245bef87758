import { plot } from './plot';

describe('plot', () => {
  const svg = plot([
    { name: 'get', connections: 64, requestsPerSecond: 1_000, p99: 20 },
    { name: 'create', connections: 8, requestsPerSecond: 250, p99: 80 },
  ]);
  const widths = (style: string) =>
    [...svg.matchAll(new RegExp(`<rect class="${style}".*? width="(\\d+)"`, 'g'))].map(([, width]) => Number(width));

  it('draws each value in proportion to the largest of its kind', () => {
    const [get = NaN, create = NaN] = widths('rate');
    expect(get / create).toBeCloseTo(4, 1);
    const [getP99 = NaN, createP99 = NaN] = widths('latency');
    expect(createP99 / getP99).toBeCloseTo(4, 1);
    expect(createP99).toBe(get);
  });

  it('names each scenario and its values', () => {
    for (const text of ['get, 64', 'create, 8', '1000', '250', '20.0', '80.0'])
      expect(svg).toContain(`>${text}</text>`);
  });
});
