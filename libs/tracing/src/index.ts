export { type EndedSpan, errorTypeOf, Spans } from './spans';
export { TracingModule } from './tracing.module';
