export { CONFIG, ConfigModule } from './config.module';
export { loadConfig, type Config, type Needs, type OutboundSettings, type Role, VARIABLES } from './config';
export { ConfigError } from './config-error';
