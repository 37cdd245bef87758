/**
 * Stops in order, once, and exits with code 0: on Ctrl-C and SIGTERM, when the terminal closes, and when the parent dies
 * (npm, or the shell between us) without handing the signal on. `npm start` replaces that shell where it can (`exec`), so
 * that npm waits for us; the other half of it is for shells that cannot.
 */
export function stopOnSignal(stop: () => Promise<void>): void {
  const exit = () => void stop().finally(() => process.exit(0));
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, exit);
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) exit();
  }, 500).unref();
}
