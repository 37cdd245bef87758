export { AuthModule } from './auth.module';
export { CurrentPrincipal } from './current-principal.decorator';
export { Public, RequireScopes, type Scope } from './route-access.decorators';
