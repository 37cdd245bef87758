const stops: (() => Promise<void>)[] = [];

/** Remembers what the end of the test run must stop. */
export function onTeardown(stop: () => Promise<void>): void {
  stops.push(stop);
}

export async function tearDown(): Promise<void> {
  for (const stop of stops.reverse()) await stop();
}
