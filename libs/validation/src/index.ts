export { IsAbsentOr, isStorable, IsStorableText, IsTimestamp, MaxLength, validator } from './validators';
