import type { LoggerService } from '@nestjs/common';
import type { Config } from '@platform/config';
import { Logger, PinoLogger } from 'nestjs-pino';
import { logDestination } from './log-destination';
import { loggerOptions } from './logger-options';

/** The application's logger. It needs no module, so it also logs what happens before modules are created. */
export function createLogger(config: Config): LoggerService {
  return new Logger(new PinoLogger({ pinoHttp: [loggerOptions(config), logDestination] }), {});
}
