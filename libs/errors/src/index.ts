export { answerClientErrors } from './client-error';
export { ERROR_STATUS, type ErrorCode } from './error-code';
export { ErrorFilter } from './error.filter';
export { errorBody } from './error-response';
export { type Refusal, RefusedAs, refusalOf } from './refused-as.decorator';
export { RequestValidationPipe } from './request-validation.pipe';
export { ServiceError, type ErrorDetail } from './service-error';
