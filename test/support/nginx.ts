import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { answers } from './answers';
import { freePort } from './free-port';
import { until } from './until';

/** @throws {Error} if nginx is missing and REQUIRE_KAFKA=1, which stands for everything that CI must have */
export function hasNginx(): boolean {
  if (spawnSync('nginx', ['-v']).status === 0) return true;
  if (process.env['REQUIRE_KAFKA'] === '1') throw new Error('REQUIRE_KAFKA=1, and there is no nginx here');
  console.warn('\n\n  TESTS BEHIND NGINX ARE SKIPPED: there is no nginx on the PATH.\n');
  return false;
}

/** A real nginx on 127.0.0.1 with a configuration of ours, in which addresses and files are replaced. */
export class Nginx {
  private constructor(
    readonly url: string,
    private readonly child: ChildProcess,
    private readonly prefix: string,
  ) {}

  /** @param replacements new texts, by the text that they replace; `LISTEN` in one becomes the address to listen on */
  static async start(configuration: string, replacements: Record<string, string>): Promise<Nginx> {
    const prefix = mkdtempSync(path.join(tmpdir(), 'order-nginx-'));
    const port = await freePort();
    let text = readFileSync(configuration, 'utf8');
    for (const [from, to] of Object.entries(replacements)) {
      if (!text.includes(from)) throw new Error(`${configuration} has no ${from}`);
      text = text.replaceAll(from, to.replace('LISTEN', `127.0.0.1:${port}`));
    }
    // In one process, so that `stop` ends all of it, and with temporary files where it may write.
    const temporary = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((kind) => `${kind}_temp_path ${kind};`);
    text = text.replace('http {', `http {\n  access_log off;\n  ${temporary.join('\n  ')}`);
    const own = `daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr warn;\n`;
    writeFileSync(path.join(prefix, 'nginx.conf'), own + text);
    const child = spawn('nginx', ['-p', prefix, '-c', 'nginx.conf'], { stdio: ['ignore', 'ignore', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    await until('nginx', async () => {
      if (child.exitCode !== null) throw new Error(`nginx ended: ${said}`);
      return answers(port);
    });
    return new Nginx(`https://127.0.0.1:${port}`, child, prefix);
  }

  async stop(): Promise<void> {
    if (this.child.exitCode === null) {
      const exit = once(this.child, 'exit');
      this.child.kill('SIGTERM');
      await exit;
    }
    rmSync(this.prefix, { recursive: true, force: true });
  }
}
