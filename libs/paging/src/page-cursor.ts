import { createHmac, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import { type Refusal, ServiceError } from '@platform/errors';

const ID_BYTES = 16;
const MAC_BYTES = 16;

/**
 * Page cursors: the id with which the page ended, and a MAC (HMAC-SHA-256, cut to 128 bits) over it and over what was
 * asked, so that a cursor is good only for the list that it came from.
 */
@Injectable()
export class PageCursor {
  private key: Promise<Buffer> | undefined;

  constructor(private readonly database: Database) {}

  /**
   * @param uuid id of the last thing on the page
   * @param list what the list was asked for, apart from its page; names the kind of list and its tenant
   */
  async encode(uuid: string, list: string): Promise<string> {
    const id = Buffer.from(uuid.replaceAll('-', ''), 'hex');
    return Buffer.concat([id, await this.mac(id, list)]).toString('base64url');
  }

  /**
   * @returns the id that the page before ended with
   * @throws {ServiceError} the refusal, for a cursor that we did not make for this list
   */
  async decode(cursor: string, list: string, { code, message }: Refusal): Promise<string> {
    const bytes = Buffer.from(cursor, 'base64url');
    const id = bytes.subarray(0, ID_BYTES);
    const isOurs =
      bytes.length === ID_BYTES + MAC_BYTES &&
      bytes.toString('base64url') === cursor &&
      timingSafeEqual(bytes.subarray(ID_BYTES), await this.mac(id, list));
    if (!isOurs) {
      const detail = { field: 'cursor', message: 'cursor must come from links.next of a list with the same filters' };
      throw new ServiceError(code, message, { details: [detail] });
    }
    return id.toString('hex');
  }

  private async mac(id: Buffer, list: string): Promise<Buffer> {
    this.key ??= this.readKey().catch((error: unknown) => {
      this.key = undefined;
      throw error;
    });
    return createHmac('sha256', await this.key)
      .update(id)
      .update(list)
      .digest()
      .subarray(0, MAC_BYTES);
  }

  /** The same for every process. */
  private readKey(): Promise<Buffer> {
    return this.database.run(async (manager) => {
      const [row] = await manager.query<{ key: Buffer }[]>('SELECT key FROM cursor_keys');
      if (!row) throw new Error('The table cursor_keys is empty');
      return row.key;
    });
  }
}
