import { readSettings } from './settings';

/** The number of each port, undefined where the piece is left out. */
function portsIn(env: NodeJS.ProcessEnv) {
  const { servicePort, postgres, identityProvider, payments, kafka } = readSettings(env);
  const ports = { servicePort, postgres, identityProvider, payments, kafka };
  return Object.fromEntries(Object.entries(ports).map(([piece, port]) => [piece, port?.value]));
}

describe('readSettings', () => {
  const standard = { servicePort: 3000, postgres: 54320, identityProvider: 4000, payments: 4100, kafka: 9092 };

  it('gives each piece the port that the README says', () => {
    expect(portsIn({})).toEqual(standard);
  });

  it.each([
    ['DATABASE_URL', 'postgres'],
    ['OIDC_ISSUER', 'identityProvider'],
    ['PAYMENT_API_URL', 'payments'],
  ])('leaves out what %s names', (name, piece) => {
    expect(portsIn({ [name]: 'https://elsewhere.example' })).toEqual({ ...standard, [piece]: undefined });
  });
});
