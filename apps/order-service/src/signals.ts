/** Until {@link onSignal} the process is starting, and has nothing to finish. */
let handle: (signal: NodeJS.Signals) => void = () => process.exit(0);

// Installed first: process 1 of a container ignores signals for which it has no handler.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => handle(signal));

export function onSignal(handler: (signal: NodeJS.Signals) => void): void {
  handle = handler;
}
