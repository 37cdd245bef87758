export { answerClientErrors } from './client-error';
export { ERROR_STATUS, type ErrorCode } from './error-code';
export { ErrorFilter } from './error.filter';
export { errorBody, problemBody } from './error-response';
export { FreeForm, type FreeFormRule } from './free-form.decorator';
export { type Refusal, RefusedAs, refusalOf } from './refused-as.decorator';
export { RequestValidationPipe } from './request-validation.pipe';
export { ServiceError, type ErrorDetail } from './service-error';
