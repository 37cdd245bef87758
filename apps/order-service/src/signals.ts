/** Until {@link onSignal} the process is starting, and has nothing to finish. */
let handle: (signal: NodeJS.Signals) => void = () => process.exit(0);

// Installed first: process 1 of a container ignores signals for which it has no handler.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => handle(signal));
// A Node process that started this one with an IPC channel, as the sandbox does, is gone or has closed it.
process.on('disconnect', () => handle('SIGTERM'));

export function onSignal(handler: (signal: NodeJS.Signals) => void): void {
  handle = handler;
}
