import { startPaymentApi } from './payment-api';

/** The payment API alone, for compose.yaml. It listens on all addresses, because other containers call it. */
async function main(): Promise<void> {
  const server = await startPaymentApi(4100, undefined, '0.0.0.0');
  // As process 1 it would ignore SIGTERM without a handler.
  process.on('SIGTERM', () => void server.stop());
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
