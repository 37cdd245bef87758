/** While the process starts nothing is under way that would have to be finished. */
let handle: (signal: NodeJS.Signals) => void = () => process.exit(0);

// Before all else: process 1 of a container that has no handler yet cannot be told to end.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => handle(signal));

export function onSignal(handler: (signal: NodeJS.Signals) => void): void {
  handle = handler;
}
