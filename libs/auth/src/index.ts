export { AuthModule } from './auth.module';
export { AccessTokenVerifier } from './access-token-verifier';
export { SigningKeys } from './signing-keys';
export { CurrentPrincipal } from './current-principal.decorator';
export { ACCESS_TOKEN_SCHEME, Public, RequireScopes } from './route-access.decorators';
