/** Replaces the progress line on a terminal; does nothing without one. */
export function progress(line: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
}

/** Prints a result in place of the progress line. */
export function result(line: string): void {
  progress('');
  console.log(line);
}
