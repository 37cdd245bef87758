import type { LoggerService } from '@nestjs/common';
import type { Config } from '@platform/config';
import { Logger, PinoLogger } from 'nestjs-pino';
import { logDestination } from './log-destination';
import { loggerOptions } from './logger-options';

/** The application's logger for the time before its modules exist. It logs like the modules' logger. */
export function createLogger(config: Config): LoggerService {
  return new Logger(new PinoLogger({ pinoHttp: [loggerOptions(config), logDestination] }), {});
}
