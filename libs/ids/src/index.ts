export { randomHex } from './random-hex';
export { idsAfter, idsFrom, momentOf, newTimeId, timestampOf, toTimestamp } from './time-ids';
