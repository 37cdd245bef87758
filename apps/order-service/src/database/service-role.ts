import { type DirectConnection, isForbidden } from '@platform/database';

/** Group role of the service. It owns nothing and cannot log in: operators make login roles its members. */
const SERVICE_ROLE = 'order_service';

/**
 * All privileges of the service, per table; everything else is denied. A new table gets a line with the least it needs.
 * During a rollout the previous version runs with this list too, so remove a privilege one release after its last use.
 * Widen the privileges of an existing table only together with a migration: from it the previous version knows that it
 * is not the newest, and must not revoke them.
 */
const PRIVILEGES: Readonly<Record<string, string>> = {
  orders: 'SELECT, INSERT, UPDATE, DELETE',
  idempotency_keys: 'SELECT, INSERT, DELETE',
  payments: 'SELECT, INSERT, UPDATE',
  outbox: 'SELECT, INSERT, UPDATE, DELETE',
  outbox_parked: 'SELECT, INSERT',
  inbox: 'SELECT, INSERT, DELETE',
  // The database sets position and transaction. The service deletes events through prune_audit_events only.
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
    NULL; -- roles belong to the whole server: a migration of another database has just created it
  END $$`;

/** Also on sequences and on tables not listed above, but not on what other owners have, such as extensions. */
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

/** Graphile Worker enables row-level security: without a policy, only the owner sees the rows. */
const policyOn = (table: string) => `
  DO $$ BEGIN
    IF (SELECT relrowsecurity FROM pg_class WHERE oid = '${table}'::regclass)
       AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = '${table}'::regclass AND polname = '${SERVICE_ROLE}') THEN
      CREATE POLICY ${SERVICE_ROLE} ON ${table} TO ${SERVICE_ROLE} USING (true) WITH CHECK (true);
    END IF;
  END $$`;

/** Creates the role unless it exists. @throws {Error} with a one-line message, if the user may not create it */
export async function createServiceRole(client: DirectConnection): Promise<void> {
  await client.query(CREATE_ROLE).catch((error: unknown) => {
    if (!isForbidden(error)) throw error;
    throw new Error(
      `The role ${SERVICE_ROLE} is missing, and ${client.user} may not create it. Have it created: CREATE ROLE ${SERVICE_ROLE} NOLOGIN`,
      { cause: error },
    );
  });
}

/**
 * Gives the role exactly the privileges listed above. Called after the migrations and not in one of them, because the
 * tables of Graphile Worker come and go with its versions.
 * @param isNewest whether no later version has migrated this database; if one has, nothing is revoked, since that
 *   version may need it
 */
export async function grantToServiceRole(client: DirectConnection, isNewest: boolean): Promise<void> {
  const grants = Object.entries(PRIVILEGES).flatMap(([table, privileges]) => [
    `GRANT ${privileges} ON ${table} TO ${SERVICE_ROLE}`,
    policyOn(table),
  ]);
  // Several statements in one query are one transaction: nobody sees the role without its privileges.
  await client.query(
    [
      ...(isNewest ? [REVOKE_ALL] : []),
      `GRANT USAGE ON SCHEMA public, graphile_worker TO ${SERVICE_ROLE}`,
      `GRANT EXECUTE ON FUNCTION prune_audit_events TO ${SERVICE_ROLE}`,
      ...grants,
    ].join(';'),
  );
}
