import {
  applyDecorators,
  type ArgumentsHost,
  Catch,
  Logger,
  type RpcExceptionFilter,
  UseFilters,
} from '@nestjs/common';
import { EventPattern, type KafkaContext } from '@nestjs/microservices';
import { KnownCauses, ServiceError } from '@platform/errors';
import { runInContext } from '@platform/request-context';
import { type Observable, throwError } from 'rxjs';
import { contextOf, textHeader } from './consumed-event';

/**
 * Passes a handler's error on to the transport, which delivers the event again. Nest's own filter would log it as an
 * error, which a retry is not, and replace it by one without information.
 */
@Catch()
class RedeliveryFilter implements RpcExceptionFilter {
  private readonly logger = new Logger('Events');
  private readonly knownCauses = new KnownCauses();

  catch(error: unknown, host: ArgumentsHost): Observable<never> {
    if (ServiceError.isUnavailable(error) && !this.knownCauses.isNew(error.cause)) return throwError(() => error);
    const event = host.switchToRpc().getContext<KafkaContext>();
    const { headers = {}, offset } = event.getMessage();
    const place = { topic: event.getTopic(), partition: event.getPartition(), offset };
    const line = { err: error, eventId: textHeader(headers, 'ce_id'), ...place };
    runInContext(contextOf(headers), () =>
      this.logger.warn(line, 'An event could not be dealt with; it is delivered again'),
    );
    return throwError(() => error);
  }
}

/** Subscribes a controller's method to a topic. An event is delivered again if the method rejects. */
export function OnEvents(topic: string): MethodDecorator {
  return applyDecorators(EventPattern(topic) as MethodDecorator, UseFilters(RedeliveryFilter));
}
