/** Until {@link onSignal} is called, the process is starting and has nothing to finish. */
let handle: (signal: NodeJS.Signals) => void = () => process.exit(0);

// Installed first: process 1 of a container ignores signals for which it has no handler.
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => handle(signal));
// The Node process that started this one with an IPC channel, as the sandbox does, has ended or closed the channel.
process.on('disconnect', () => handle('SIGTERM'));

export function onSignal(handler: (signal: NodeJS.Signals) => void): void {
  handle = handler;
}
