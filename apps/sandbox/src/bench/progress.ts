/** Shows what is being done, in place of what was shown before. Where nobody watches, nothing. */
export function progress(line: string): void {
  if (process.stdout.isTTY) process.stdout.write(`\r\x1b[K${line}`);
}

/** Shows what has been done. */
export function result(line: string): void {
  progress('');
  console.log(line);
}
