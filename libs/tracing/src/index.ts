export { type EndedSpan, Spans } from './spans';
export { TracingModule } from './tracing.module';
