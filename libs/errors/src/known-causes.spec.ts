import { KnownCauses } from './known-causes';

it('KnownCauses knows a cause for a second, and by its message', () => {
  const now = jest.spyOn(performance, 'now');
  const causes = new KnownCauses();
  const isNew = (atMs: number, message: string) => {
    now.mockReturnValue(atMs);
    return causes.isNew(new Error(message));
  };
  expect(isNew(5_000, 'away')).toBe(true);
  expect(isNew(5_500, 'away')).toBe(false);
  expect(isNew(5_500, 'slow')).toBe(true);
  expect(isNew(5_999, 'away')).toBe(false);
  expect(isNew(6_000, 'away')).toBe(true);
  now.mockRestore();
});
