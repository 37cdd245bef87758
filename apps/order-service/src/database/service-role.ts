import type { DirectConnection } from '@platform/database';

/** The group whose members run the service. It owns nothing and logs in nowhere: operators make logins its members. */
const SERVICE_ROLE = 'order_service';

/**
 * All that the service may do. What is not here it may not: a new table has its line, with the least that it needs.
 * The version before runs on this list while it is replaced: what goes is taken out one release after its last use.
 * What a table of old is given more comes with a migration, by which the version before sees that it is not the newest.
 */
const PRIVILEGES: Readonly<Record<string, string>> = {
  orders: 'SELECT, INSERT, UPDATE, DELETE',
  idempotency_keys: 'SELECT, INSERT, DELETE',
  payments: 'SELECT, INSERT, UPDATE',
  outbox: 'SELECT, INSERT, UPDATE, DELETE',
  outbox_parked: 'SELECT, INSERT',
  inbox: 'SELECT, INSERT, DELETE',
  // Position and transaction are given by the database; it takes events away by prune_audit_events alone.
  audit_events: `SELECT, INSERT (id, occurred_at, tenant_id, client_id, action, object, outcome, status_code, error_code,
                                 request_id, address, certificate)`,
  audit_blocks: 'SELECT, INSERT',
  erasures: 'SELECT, INSERT, UPDATE',
  cursor_keys: 'SELECT',
  migrations: 'SELECT',
  'graphile_worker._private_jobs': 'SELECT, INSERT, UPDATE, DELETE',
  'graphile_worker._private_job_queues': 'SELECT, INSERT, UPDATE',
  'graphile_worker._private_tasks': 'SELECT, INSERT',
};

const CREATE_ROLE = `
  DO $$ BEGIN
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '${SERVICE_ROLE}') THEN
      CREATE ROLE ${SERVICE_ROLE} NOLOGIN;
    END IF;
  EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL; -- roles belong to the whole server, on which another database is being migrated
  END $$`;

/** On tables without a line above and on sequences too, but not on what is another owner's, as extensions may be. */
const REVOKE_ALL = `
  REVOKE ALL ON SCHEMA public, graphile_worker FROM ${SERVICE_ROLE};
  DO $$ DECLARE relation regclass; BEGIN
    FOR relation IN
      SELECT oid FROM pg_class
      WHERE relnamespace IN ('public'::regnamespace, 'graphile_worker'::regnamespace)
        AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND pg_has_role(relowner, 'USAGE')
    LOOP
      EXECUTE format('REVOKE ALL ON %s FROM ${SERVICE_ROLE}', relation);
    END LOOP;
  END $$`;

/** Graphile Worker turns row-level security on, and only owners pass that without a policy. */
const policyOn = (table: string) => `
  DO $$ BEGIN
    IF (SELECT relrowsecurity FROM pg_class WHERE oid = '${table}'::regclass)
       AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = '${table}'::regclass AND polname = '${SERVICE_ROLE}') THEN
      CREATE POLICY ${SERVICE_ROLE} ON ${table} TO ${SERVICE_ROLE} USING (true) WITH CHECK (true);
    END IF;
  END $$`;

/** @throws {Error} one line, when the role is missing and the user may not create it */
export async function createServiceRole(client: DirectConnection): Promise<void> {
  await client.query(CREATE_ROLE).catch((error: Error & { code?: string }) => {
    if (error.code !== '42501') throw error; // insufficient_privilege
    throw new Error(
      `The role ${SERVICE_ROLE} is missing, and ${client.user} may not create it. Have it created: CREATE ROLE ${SERVICE_ROLE} NOLOGIN`,
      { cause: error },
    );
  });
}

/**
 * Gives the role what the list above says, no more and no less. After each run of migrations and not in one of them,
 * because the tables of Graphile Worker come and go with its versions.
 * @param isNewest whether no later version has migrated here; else nothing is taken away, which that one may need
 */
export async function grantToServiceRole(client: DirectConnection, isNewest: boolean): Promise<void> {
  const grants = Object.entries(PRIVILEGES).flatMap(([table, privileges]) => [
    `GRANT ${privileges} ON ${table} TO ${SERVICE_ROLE}`,
    policyOn(table),
  ]);
  // Several statements in one text are one transaction: nobody sees the role without its privileges.
  await client.query(
    [
      ...(isNewest ? [REVOKE_ALL] : []),
      `GRANT USAGE ON SCHEMA public, graphile_worker TO ${SERVICE_ROLE}`,
      `GRANT EXECUTE ON FUNCTION prune_audit_events TO ${SERVICE_ROLE}`,
      ...grants,
    ].join(';'),
  );
}
