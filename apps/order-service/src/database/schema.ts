import { Order } from '../orders/order.entity';
import { CreateOrders1763800000000 } from './migrations/1763800000000-create-orders';
import { CarryOrdersThrough1764000000000 } from './migrations/1764000000000-carry-orders-through';
import { CreateAudit1764100000000 } from './migrations/1764100000000-create-audit';
import { FindWhatIsToBeDeleted1764200000000 } from './migrations/1764200000000-find-what-is-to-be-deleted';
import { FindEventsOfAnOrder1764300000000 } from './migrations/1764300000000-find-events-of-an-order';
import { FindWhatAClientDid1764400000000 } from './migrations/1764400000000-find-what-a-client-did';
import { FindJobsOfDeadRunners1764500000000 } from './migrations/1764500000000-find-jobs-of-dead-runners';
import { JudgeBlocksByTheTrail1764600000000 } from './migrations/1764600000000-judge-blocks-by-the-trail';
import { FindWhatATenantDidToAnOrder1764700000000 } from './migrations/1764700000000-find-what-a-tenant-did-to-an-order';
import { FindPaymentsToVoid1764800000000 } from './migrations/1764800000000-find-payments-to-void';
import { VacuumLargeTablesSooner1764900000000 } from './migrations/1764900000000-vacuum-large-tables-sooner';

/**
 * All entities; all migrations, in order; and all tables with a column `tenant_id`, which a client's statements reach
 * only with the client's tenant. Migrations are not changed once they are merged.
 */
export const schema = {
  entities: [Order],
  migrations: [
    CreateOrders1763800000000,
    CarryOrdersThrough1764000000000,
    CreateAudit1764100000000,
    FindWhatIsToBeDeleted1764200000000,
    FindEventsOfAnOrder1764300000000,
    FindWhatAClientDid1764400000000,
    FindJobsOfDeadRunners1764500000000,
    JudgeBlocksByTheTrail1764600000000,
    FindWhatATenantDidToAnOrder1764700000000,
    FindPaymentsToVoid1764800000000,
    VacuumLargeTablesSooner1764900000000,
  ],
  tenantTables: ['orders', 'idempotency_keys', 'audit_events', 'erasures'],
};
