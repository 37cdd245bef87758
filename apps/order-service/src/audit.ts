import { readArguments } from '@platform/arguments';
import { AuditVerifier, type AuditFault } from '@platform/audit';
import { loadConfig } from '@platform/config';
import { withDirectConnection } from '@platform/database';
import { fromUUID } from 'typeid-js';
import { SERVICE_NAME } from './service-name';

const USAGE = 'usage: npm run audit -- verify [--after HEAD]   (HEAD: as an earlier run printed it)';

/** A block's number, and its MAC in hexadecimal. */
const HEAD = /^\d+:[\da-f]{64}$/;

const ANSWER_TIMEOUT_MS = 60_000;

/** Not 1, with which a program ends for any other reason. */
const TAMPERED = 3;

/** Verifies the audit trail. Exit code 3 if anything was edited, removed or inserted; 1 if the check itself failed. */
async function main(): Promise<void> {
  const head = parse();
  const config = loadConfig(SERVICE_NAME);
  const { auditKeys, retention } = config;
  if (!auditKeys) throw new Error('AUDIT_KEY is required');
  const verdict = await withDirectConnection([config, 'audit', ANSWER_TIMEOUT_MS], (client) =>
    new AuditVerifier(client, auditKeys, retention.auditDays).verify(head),
  );
  const { after, blocks, events, prunedBlocks, prunedUntil, unsealed, faults } = verdict;
  const where = after === undefined ? '' : ` after block ${after}`;
  console.log(`${events} events in ${blocks} blocks${where}; ${unsealed} events are not sealed yet`);
  if (prunedUntil)
    console.log(
      `The events of the first ${prunedBlocks} blocks, until ${prunedUntil.toISOString()}, were deleted by retention`,
    );
  for (const fault of faults) console.log(line(fault));
  if (faults.length > 0) {
    console.error(`The audit trail was tampered with: ${faults.length} fault(s)`);
    process.exitCode = TAMPERED;
    return;
  }
  console.log(`The audit trail is whole. Head: ${verdict.head ?? 'none'}`);
}

function parse(): string | undefined {
  const config = { allowPositionals: true, options: { after: { type: 'string' } } } as const;
  const { values, positionals } = readArguments(USAGE, config);
  // A head that was cut off in copying would be reported as a block that somebody has removed.
  if (positionals.join(' ') === 'verify' && (values.after === undefined || HEAD.test(values.after)))
    return values.after;
  throw new Error(USAGE);
}

function line({ what, event, block, detail }: AuditFault): string {
  return `${what}: ${event === undefined ? `block ${block}` : `event ${fromUUID(event, 'aud')}`} (${detail})`;
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
});
