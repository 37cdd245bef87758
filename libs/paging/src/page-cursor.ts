import { createHmac, createSecretKey, type KeyObject, timingSafeEqual } from 'node:crypto';
import { Injectable } from '@nestjs/common';
import { Database } from '@platform/database';
import { ServiceError } from '@platform/errors';
import { refusalOf } from '@platform/validation';
import type { PageQuery } from './page.query';

const ID_BYTES = 16;
const MAC_BYTES = 16;

/** A part of a list. */
export interface Slice<T> {
  readonly items: readonly T[];
  /** The next page has the ids below this one, which need not be an item's id; undefined at the end of the list. */
  readonly nextBeforeId: string | undefined;
}

interface Page<T> {
  readonly items: readonly T[];
  /** Paths with query of this page and, unless it is the last, of the next. */
  readonly links: { readonly self: string; readonly next?: string };
}

/**
 * Keyset pagination of a list by id, newest first. A cursor is the last id of the previous page and a MAC
 * (HMAC-SHA-256, truncated to 128 bits) over that id, the path, the tenant and the filters, so that it is valid only
 * for the same list.
 */
@Injectable()
export class PageCursor {
  private key: Promise<KeyObject> | undefined;

  constructor(private readonly database: Database) {}

  /**
   * @param path path of the list
   * @param query the validated query; its class determines how a cursor of another list is refused
   * @param read returns at most `limit` items with ids below `beforeId`, newest first; it may return fewer and still
   *   set `nextBeforeId`
   */
  async page<T>(
    path: string,
    tenantId: string,
    query: PageQuery,
    read: (limit: number, beforeId: string | undefined) => Promise<Slice<T>>,
  ): Promise<Page<T>> {
    const { limit, cursor, ...filters } = query;
    const list = JSON.stringify([path, tenantId, Object.entries(filters).sort()]);
    const beforeId = cursor === undefined ? undefined : await this.decode(cursor, list, query);
    const { items, nextBeforeId } = await read(limit, beforeId);
    const parameters = new URLSearchParams({ ...filters, limit: String(limit) });
    const link = (at?: string) => `${path}?${parameters}${at === undefined ? '' : `&cursor=${at}`}`;
    return {
      items,
      links: { self: link(cursor), ...(nextBeforeId && { next: link(await this.encode(nextBeforeId, list)) }) },
    };
  }

  private async encode(uuid: string, list: string): Promise<string> {
    const id = Buffer.from(uuid.replaceAll('-', ''), 'hex');
    return Buffer.concat([id, await this.mac(id, list)]).toString('base64url');
  }

  private async decode(cursor: string, list: string, query: PageQuery): Promise<string> {
    const bytes = Buffer.from(cursor, 'base64url');
    const id = bytes.subarray(0, ID_BYTES);
    const isOurs =
      bytes.length === ID_BYTES + MAC_BYTES &&
      bytes.toString('base64url') === cursor &&
      timingSafeEqual(bytes.subarray(ID_BYTES), await this.mac(id, list));
    if (!isOurs) {
      const { code, message } = refusalOf(query.constructor);
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

  /** The key is shared by all processes. */
  private readKey(): Promise<KeyObject> {
    return this.database.run(async (manager) => {
      const [row] = await manager.query<{ key: Buffer }[]>('SELECT key FROM cursor_keys');
      if (!row) throw new Error('The table cursor_keys is empty');
      return createSecretKey(row.key);
    });
  }
}
