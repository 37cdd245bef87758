import { applyDecorators, SetMetadata } from '@nestjs/common';
import { ApiSecurity } from '@nestjs/swagger';

/** The scopes that the service knows. */
export type Scope = 'orders:read' | 'orders:write' | 'privacy:erase' | 'audit:read';

/** Metadata key on a route or a controller: the scopes that a caller needs, or `public`. */
export const ROUTE_ACCESS = 'route-access';
export type RouteAccess = readonly Scope[] | 'public';

/** Name of the security scheme in the OpenAPI document. */
export const ACCESS_TOKEN_SCHEME = 'accessToken';

/** The route requires an access token with all of these scopes. */
export const RequireScopes = (...scopes: [Scope, ...Scope[]]) =>
  applyDecorators(SetMetadata(ROUTE_ACCESS, scopes satisfies RouteAccess), ApiSecurity(ACCESS_TOKEN_SCHEME, scopes));

/** The route requires no token. */
export const Public = () => SetMetadata(ROUTE_ACCESS, 'public' satisfies RouteAccess);
