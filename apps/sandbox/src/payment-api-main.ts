import { startPaymentApi } from './payment-api';

/** The payment API alone, for compose.yaml: in a container of its own, so that others must reach it. */
async function main(): Promise<void> {
  const server = await startPaymentApi(4100, undefined, '0.0.0.0');
  // Nobody else stops process 1: without a handler the kernel drops SIGTERM.
  process.on('SIGTERM', () => void server.stop());
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
