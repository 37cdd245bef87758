import { placeOrder, steadily, thresholds } from './orders.js';

export const options = { thresholds, scenarios: { normal: steadily('5m') } };

export default function () {
  placeOrder();
}
