import { newTimeId } from '@platform/ids';
import { type Block, blockMac, rowMac, type SealedRow } from './audit-chain';
import { AuditVerifier } from './audit-verifier';

const KEY = 'a-key-of-at-least-32-characters-1';
const DAY_MS = 86_400_000;

/** Blocks of one event each, at the positions 1, 2, 3 …, sealed 40 days ago. */
function trailOf(length: number): { blocks: Block[]; events: SealedRow[] } {
  const blocks: Block[] = [];
  const events: SealedRow[] = [];
  for (let at = 1; at <= length; at += 1) {
    const event: SealedRow = {
      position: String(at),
      id: newTimeId(),
      occurred_at: '2026-01-01T00:00:00.000000',
      tenant_id: 'acme',
      client_id: null,
      action: 'order.confirm',
      object: null,
      outcome: 'succeeded',
      status_code: null,
      error_code: null,
      request_id: null,
      address: null,
      certificate: null,
    };
    const block = {
      number: String(at),
      sealed_at: new Date(Date.now() - 40 * DAY_MS),
      last_position: String(at),
      event_ids: [event.id],
      event_macs: rowMac(KEY, event),
      previous: blocks.at(-1)?.mac ?? Buffer.alloc(0),
    };
    events.push(event);
    blocks.push({ ...block, mac: blockMac(KEY, block) });
  }
  return { blocks, events };
}

/**
 * @param missing positions whose events are gone from the start
 * @param pruned up to where retention has come once so many blocks were read
 */
function verify({ missing = [] as number[], pruned = {} as Record<number, number> }) {
  const { blocks, events } = trailOf(120);
  let kept = events.filter(({ position }) => !missing.includes(Number(position)));
  const prune = (upTo = 0) => (kept = kept.filter(({ position }) => Number(position) > upTo));
  prune(pruned[0]);
  let read = 0;
  const query = async (text: string, [first, second]: [string, string] = ['', '']) => {
    if (text.includes('FROM audit_blocks')) {
      const rows = blocks.filter(({ number }) => BigInt(number) > BigInt(first)).slice(0, Number(second));
      read += rows.length;
      return { rows };
    }
    if (text.includes('min(position)')) return { rows: [{ first: kept[0]?.position ?? null }] };
    if (!text.includes('count(*)')) prune(pruned[read]); // right before the read
    const rows = kept.filter(({ position }) => BigInt(position) > BigInt(first));
    if (text.includes('count(*)')) return { rows: [{ unsealed: rows.length }] };
    return { rows: rows.filter(({ position }) => BigInt(position) <= BigInt(second)) };
  };
  return new AuditVerifier({ query } as never, [KEY], 35).verify();
}

describe('AuditVerifier', () => {
  it('finds a trail whole from which retention takes more while it reads', async () => {
    expect(await verify({ pruned: { 0: 30, 100: 60 } })).toMatchObject({ blocks: 120, prunedBlocks: 60, faults: [] });
  });

  it('finds a trail whole of which retention has left nothing', async () => {
    expect(await verify({ pruned: { 0: 120 } })).toMatchObject({ events: 0, prunedBlocks: 120, faults: [] });
  });

  it('names what is missing behind an event that is left, however old it is', async () => {
    const { prunedBlocks, faults } = await verify({ missing: [32, 60], pruned: { 0: 30 } });
    expect(prunedBlocks).toBe(30);
    expect(faults.map(({ what, detail }) => `${what} ${detail.split(',')[0]}`)).toEqual([
      'removed block 32',
      'removed block 60',
    ]);
  });
});
