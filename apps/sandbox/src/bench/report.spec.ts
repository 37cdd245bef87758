import { showErrors, withGenerated } from './report';

describe('withGenerated', () => {
  const document =
    'Above.\n\n<!-- a: begin -->\n\nold\n\n<!-- a: end -->\n\n<!-- b: begin -->\n<!-- b: end -->\nBelow.';

  it('replaces what stands between the marks of that name, and nothing else', () => {
    expect(withGenerated(document, 'a', 'new $& text')).toBe(document.replace('old', () => 'new $& text'));
    expect(withGenerated(withGenerated(document, 'a', 'x'), 'a', 'old')).toBe(document);
  });

  it('refuses a document without the marks', () => {
    expect(() => withGenerated(document, 'c', '')).toThrow('<!-- c: begin -->');
    expect(() => withGenerated('<!-- a: begin -->', 'a', '')).toThrow('<!-- a: end -->');
  });
});

describe('showErrors', () => {
  it('counts the errors of each kind', () => {
    expect(showErrors({ 503: 12, ECONNRESET: 1 })).toBe('12 × 503, 1 × ECONNRESET');
    expect(showErrors({})).toBe('0');
  });
});
