/**
 * Stops in order and exits with code 0: on Ctrl-C, Ctrl-\ and SIGTERM, when the terminal closes, when it finds that
 * nobody reads its output any more (`npm start | head`), and when the parent (npm, or the shell in between) dies
 * without passing the signal on. `npm start` replaces that shell by `exec`, so that npm waits for this process; the
 * part behind `||` is for shells without `exec`.
 * @param stop may be called more than once
 */
export function stopOnSignal(stop: () => Promise<void>): void {
  const exit = () => void stop().finally(() => process.exit(0));
  for (const signal of ['SIGINT', 'SIGQUIT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, exit);
  for (const output of [process.stdout, process.stderr]) output.on('error', exit);
  const parent = process.ppid;
  setInterval(() => {
    if (process.ppid !== parent) exit();
  }, 500).unref();
}
