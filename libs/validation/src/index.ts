export { FreeForm, type FreeFormRule } from './free-form.decorator';
export { type Refusal, RefusedAs, refusalOf } from './refused-as.decorator';
export { RequestValidationPipe } from './request-validation.pipe';
export { IsAbsentOr, isJsonObject, isStorable, IsText, IsTimestamp, validator } from './validators';
