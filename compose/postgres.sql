-- The roles of docs/operations.md, without what the runbooks ask for; passwords for this machine alone.
CREATE ROLE order_service NOLOGIN;
CREATE ROLE orders_owner LOGIN PASSWORD 'local-only-owner';
CREATE ROLE orders_service LOGIN PASSWORD 'local-only-service' IN ROLE order_service;
CREATE DATABASE orders OWNER orders_owner;
REVOKE ALL ON DATABASE orders FROM PUBLIC;
GRANT CONNECT ON DATABASE orders TO order_service;
