import { createHmac, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { ServiceError } from '@platform/errors';
import { OrderStore } from './order-store';

const ID_BYTES = 16;
const MAC_BYTES = 16;

/**
 * Page cursors: the id of the page's last order, and a MAC (HMAC-SHA-256, cut to 128 bits) over it and over what was
 * asked, so that a cursor is good only for the list that it came from.
 */
@Injectable()
export class OrderCursor {
  private key: Promise<Buffer> | undefined;

  constructor(private readonly store: OrderStore) {}

  /** @param list what the list was asked for, apart from its page */
  async encode(uuid: string, list: string): Promise<string> {
    const id = Buffer.from(uuid.replaceAll('-', ''), 'hex');
    return Buffer.concat([id, await this.mac(id, list)]).toString('base64url');
  }

  /**
   * @returns the id of the order that the page before ended with
   * @throws {ServiceError} ORDER_VALIDATION_FAILED for a cursor that we did not make for this list
   */
  async decode(cursor: string, list: string): Promise<string> {
    const bytes = Buffer.from(cursor, 'base64url');
    const id = bytes.subarray(0, ID_BYTES);
    const isOurs =
      bytes.length === ID_BYTES + MAC_BYTES &&
      bytes.toString('base64url') === cursor &&
      timingSafeEqual(bytes.subarray(ID_BYTES), await this.mac(id, list));
    if (!isOurs) {
      throw new ServiceError('ORDER_VALIDATION_FAILED', 'Invalid order query', {
        details: [{ field: 'cursor', message: 'cursor must come from links.next of a list with the same filters' }],
      });
    }
    return id.toString('hex');
  }

  private async mac(id: Buffer, list: string): Promise<Buffer> {
    this.key ??= this.store.cursorKey().catch((error: unknown) => {
      this.key = undefined;
      throw error;
    });
    const key = await this.key;
    return createHmac('sha256', key).update(id).update(list).digest().subarray(0, MAC_BYTES);
  }
}
