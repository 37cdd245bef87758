import type { Slice } from '@platform/paging';
import { SHOWN_COLUMNS_WITHOUT_ITEMS, type ShownOrder } from './order-columns';
import { ORDER_STATUSES, type OrderStatus } from './order-status';

export interface OrderFilter {
  readonly status?: OrderStatus;
  readonly customerId?: string;
  /** Only ids from here on. */
  readonly fromId?: string;
  /** Only ids before this one. */
  readonly beforeId?: string;
}

/** A page ends with the order whose items and metadata bring it to this size. Otherwise it could have 50 MB. */
const PAGE_BYTES = 1_048_576;

/** One more than the longest page. A constant, so that the planner expects few rows for any tenant and any page. */
const MAX_ROWS = 201;

/**
 * `NULLS LAST`, though there are none: only the indexes for lists have this order. With that of the primary key, a plan
 * could walk through the orders of all other tenants.
 */
const NEWEST = 'ORDER BY id DESC NULLS LAST';

/** The same order within one status: only indexes that contain the status have it. */
const NEWEST_OF_STATUS = 'ORDER BY status DESC, id DESC NULLS LAST';

const FIRST_ID = '00000000-0000-0000-0000-000000000000';
const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/**
 * There is no lower bound: between two bounds PostgreSQL's generic plan expects few orders, and reads those of all
 * tenants by the primary key. Orders that are too old are removed after the LIMIT.
 * @param condition on the columns of one index, the id last, so that every row that is read matches
 */
const newest = (condition: string, order = NEWEST) =>
  `SELECT * FROM orders WHERE tenant_id = $1 AND ${condition} ${order} LIMIT ${MAX_ROWS}`;

/**
 * Orders of one status, written so that only an index that contains the status can serve. With `status = $5` a plan for
 * a status that most orders have walks through all orders of the tenant and skips the others.
 */
const ofStatus = '(status, id) < ($5, $2) AND status >= $5';

const isSmall = `bytes <= ${PAGE_BYTES} / $4::integer`;

/**
 * The limit applies before the lower bound, so that no more rows are read where the bound cuts the page short.
 * @param found SQL for orders, newest first; the page takes `$4` of them and one more, none with an id below `$3`
 */
const page = (found: string, order = NEWEST) => `
  SELECT ${SHOWN_COLUMNS_WITHOUT_ITEMS}, bytes,
         CASE WHEN ${isSmall} THEN items::text END AS items,
         CASE WHEN ${isSmall} THEN metadata::text END AS metadata
  FROM (SELECT * FROM (${found}) AS found ${order} LIMIT $4::integer + 1) AS next
  WHERE id >= $3 ${order}`;

const LISTS = {
  'list-orders': page(newest('id < $2')),
  'list-orders-by-status': page(newest(ofStatus, NEWEST_OF_STATUS), NEWEST_OF_STATUS),
  'list-orders-by-status-and-customer': page(
    newest(`customer_id = $6 AND ${ofStatus}`, NEWEST_OF_STATUS),
    NEWEST_OF_STATUS,
  ),
  // The index for customers has the status before the id, so the newest of each status are merged.
  'list-orders-by-customer': page(
    ORDER_STATUSES.map((status) => `(${newest(`customer_id = $5 AND status = '${status}' AND id < $2`)})`).join(
      ' UNION ALL ',
    ),
  ),
};

interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

/** An order of a list. */
export interface ListedOrder extends Omit<ShownOrder, 'items'> {
  /** Size of items and metadata. */
  readonly bytes: number;
  /** JSON; null when a page of orders of this size would exceed `PAGE_BYTES`: such an order is read separately. */
  readonly items: string | null;
}

/**
 * The statement that reads a page, newest first (ids are in the order of creation). Its rows are {@link ListedOrder}s,
 * one more than the limit if there is a next page. It reads no more orders than that, wherever the page is and however
 * many orders there are.
 * @param limit 1 to 200
 */
export function listStatement(tenantId: string, filter: OrderFilter, limit: number): Statement {
  const { status, customerId, fromId = FIRST_ID, beforeId = LAST_ID } = filter;
  const name = listName(filter);
  const values = [status, customerId].filter((value) => value !== undefined);
  return { name, text: LISTS[name], values: [tenantId, beforeId, fromId, limit, ...values] };
}

function listName({ status, customerId }: OrderFilter): keyof typeof LISTS {
  if (customerId === undefined) return status === undefined ? 'list-orders' : 'list-orders-by-status';
  return status === undefined ? 'list-orders-by-customer' : 'list-orders-by-status-and-customer';
}

/** Cuts what {@link listStatement} found to a page: at most `limit` orders, fewer when they reach `PAGE_BYTES`. */
export function pageOf(found: readonly ListedOrder[], limit: number): Slice<ListedOrder> {
  let bytes = 0;
  const items = found.slice(0, limit).filter((order) => {
    const fits = bytes < PAGE_BYTES;
    bytes += order.bytes;
    return fits;
  });
  return { items, nextBeforeId: items.length < found.length ? items.at(-1)?.id : undefined };
}

export function hasItems(order: ListedOrder): order is ListedOrder & ShownOrder {
  return order.items !== null;
}
