import { placeOrder, steadily, thresholds } from './orders.js';

const SLOW_SHARE = 0.2;

export const options = { thresholds, scenarios: { 'dependency-slow': steadily('5m') } };

export default function () {
  // The payment API of the sandbox takes 5 s for this customer. Clients must not notice: they do not wait for payments.
  placeOrder(Math.random() < SLOW_SHARE ? 'cust_slow' : undefined);
}
