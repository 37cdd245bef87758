import { SHOWN_COLUMNS } from './order-columns';
import { ORDER_STATUSES, type OrderStatus } from './order-status';

export interface OrderFilter {
  readonly status?: OrderStatus;
  readonly customerId?: string;
  /** Only ids from here on. */
  readonly fromId?: string;
  /** Only ids before this one. */
  readonly beforeId?: string;
}

/** A page ends with the order that brings items and metadata to this size. Few large orders would else be 50 MB. */
const PAGE_BYTES = 1_048_576;

/** One more than the longest page. A constant, so that a plan made for any tenant and any page knows that few are read. */
const MOST_ROWS = 201;

/** `NULLS LAST`, though there are none: only the indexes for lists have this order. In the primary key's a plan would
 * step through the orders of all other tenants. */
const NEWEST = 'ORDER BY id DESC NULLS LAST';

const FIRST_ID = '00000000-0000-0000-0000-000000000000';
const LAST_ID = 'ffffffff-ffff-ffff-ffff-ffffffffffff';

/**
 * There is no lower bound: between two bounds a plan made for all values expects so few orders that it reads all tenants'.
 * @param condition on the columns that stand before the id in one index, so that no row is read in vain
 */
const newest = (condition: string) =>
  `SELECT * FROM orders WHERE tenant_id = $1 AND id < $2 ${condition} ${NEWEST} LIMIT ${MOST_ROWS}`;

/** @param found orders, newest first, of which `$4` are wanted, from id `$3` on; it is read no further than it has to be */
const page = (found: string) => `
  SELECT ${SHOWN_COLUMNS}, "hasMore"
  FROM (
    SELECT *, row_number() OVER newest AS place, sum(bytes) OVER newest - bytes AS bytes_before,
           coalesce(lead(id >= $3) OVER newest, false) AS "hasMore"
    FROM (${found}) AS found
    WINDOW newest AS (${NEWEST})
  ) AS page
  WHERE place <= $4 AND id >= $3 AND bytes_before < ${PAGE_BYTES} ${NEWEST}`;

const LISTS = {
  'list-orders': page(newest('')),
  'list-orders-by-status': page(newest('AND status = $5')),
  'list-orders-by-status-and-customer': page(newest('AND status = $5 AND customer_id = $6')),
  // The index for customers has the status before the id, so the newest of each status are merged.
  'list-orders-by-customer': page(
    `SELECT * FROM (${ORDER_STATUSES.map((status) => `(${newest(`AND customer_id = $5 AND status = '${status}'`)})`).join(' UNION ALL ')}) AS any_status ${NEWEST} LIMIT ${MOST_ROWS}`,
  ),
};

interface Statement {
  readonly name: string;
  readonly text: string;
  readonly values: readonly unknown[];
}

/**
 * The statement that reads a page, newest first: ids are in the order of creation. Its rows have {@link SHOWN_COLUMNS}
 * and `hasMore`, whether the list goes on behind the row. It reads one row more than the page has, or 201 where a page
 * ends with `fromId`, wherever it stands and however many orders there are; and nothing of items that it does not return.
 * @param limit 1 to 200
 */
export function listStatement(tenantId: string, filter: OrderFilter, limit: number): Statement {
  const { status, customerId, fromId = FIRST_ID, beforeId = LAST_ID } = filter;
  const given = [status !== undefined && 'status', customerId !== undefined && 'customer'].filter(Boolean);
  const name = ['list-orders', given.join('-and-')].filter(Boolean).join('-by-') as keyof typeof LISTS;
  const values = [status, customerId].filter((value) => value !== undefined);
  return { name, text: LISTS[name], values: [tenantId, beforeId, fromId, limit, ...values] };
}
