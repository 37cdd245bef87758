export { IsAbsentOr, isStorable, IsText, IsTimestamp, validator } from './validators';
