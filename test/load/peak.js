import { placeOrder, RATE, thresholds } from './orders.js';

const PEAK = 4;
const STAGE = __ENV.STAGE || '1m';

export const options = {
  thresholds,
  scenarios: {
    peak: {
      executor: 'ramping-arrival-rate',
      startRate: RATE,
      stages: [
        { target: RATE * PEAK, duration: STAGE },
        { target: RATE * PEAK, duration: STAGE },
        { target: RATE, duration: STAGE },
      ],
      preAllocatedVUs: 100,
      maxVUs: 1_000,
    },
  },
};

export default function () {
  placeOrder();
}
