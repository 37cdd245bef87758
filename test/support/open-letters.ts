import type { Config } from '@platform/config';
import { DeadLetterBox, type Letter } from '@platform/kafka';

/** The whole letters of a dead letter topic that are neither replayed nor dropped. */
export async function openLetters(kafka: NonNullable<Config['kafka']>, topic: string): Promise<Letter[]> {
  const letters = new Map<string, Letter>();
  const box = await DeadLetterBox.open(kafka, topic, (letter) => letters.set(letter.id, letter));
  await box.close();
  return box.ids.flatMap((id) => letters.get(id) ?? []);
}
