import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';

/**
 * The keys that the service requires with NODE_ENV=production, as environment variables. They are created on the first
 * start and kept, since the audit trail in the database beside them is sealed with one of them.
 */
export function readOrCreateKeys(dataDir: string): Record<string, string> {
  const file = path.join(dataDir, 'keys.json');
  if (!existsSync(file)) {
    const newKey = () => randomBytes(32).toString('hex');
    mkdirSync(dataDir, { recursive: true });
    writeFileSync(file, JSON.stringify({ AUDIT_KEY: newKey(), PSEUDONYM_KEY: newKey() }), { mode: 0o600 });
  }
  return JSON.parse(readFileSync(file, 'utf8')) as Record<string, string>;
}
