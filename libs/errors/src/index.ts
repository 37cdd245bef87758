export { answerClientErrors } from './client-error';
export { ERROR_STATUS, type ErrorCode } from './error-code';
export { ErrorFilter } from './error.filter';
export { errorBody, PROBLEM, problemBody, wantsProblem } from './error-response';
export { KnownCauses } from './known-causes';
export { MAX_DETAILS, ServiceError, type ErrorDetail } from './service-error';
