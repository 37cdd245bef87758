import { placeOrder, steadily, thresholds } from './orders.js';

export const options = { thresholds, scenarios: { soak: steadily('2h') } };

export default function () {
  placeOrder();
}
