import { applyDecorators, Catch, Logger, type RpcExceptionFilter, UseFilters } from '@nestjs/common';
import { EventPattern } from '@nestjs/microservices';
import { type Observable, throwError } from 'rxjs';

/**
 * Hands what a handler throws on to the transport, which delivers the event again. Nest's own filter would log it as an
 * error, which a repetition is not, and replace it by one that says nothing.
 */
@Catch()
class RedeliveryFilter implements RpcExceptionFilter {
  private readonly logger = new Logger('Events');

  catch(error: unknown): Observable<never> {
    this.logger.warn({ err: error }, 'An event could not be dealt with; it is delivered again');
    return throwError(() => error);
  }
}

/** For a method of a controller: it is given the events of this topic, and one again whose promise is rejected. */
export function OnEvents(topic: string): MethodDecorator {
  return applyDecorators(EventPattern(topic) as MethodDecorator, UseFilters(RedeliveryFilter));
}
