export { IsAbsentOr, isStorable, IsStorableText, IsTimestamp, validator } from './validators';
