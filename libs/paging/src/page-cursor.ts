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
  /** The next page has ids before this one, which need not be of one of the items; undefined where the list ends. */
  readonly nextBeforeId: string | undefined;
}

interface Page<T> {
  readonly items: readonly T[];
  /** Paths of this page and, unless it is the last, of the next. */
  readonly links: { readonly self: string; readonly next?: string };
}

/**
 * Pages of a list that is read by its ids, newest first (keyset paging). A cursor is the id with which the page before
 * ended, and a MAC (HMAC-SHA-256, cut to 128 bits) over it and over what was asked, so that it is good only for the list
 * that it came from.
 */
@Injectable()
export class PageCursor {
  private key: Promise<KeyObject> | undefined;

  constructor(private readonly database: Database) {}

  /**
   * @param path of the list
   * @param query as it was validated; its class says how a cursor is refused that is not of this list
   * @param read gives that many things at most, newest first, with ids before the one given; fewer also where the list
   *   goes on
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

  /** The same for every process. */
  private readKey(): Promise<KeyObject> {
    return this.database.run(async (manager) => {
      const [row] = await manager.query<{ key: Buffer }[]>('SELECT key FROM cursor_keys');
      if (!row) throw new Error('The table cursor_keys is empty');
      return createSecretKey(row.key);
    });
  }
}
