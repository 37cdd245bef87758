import { setTimeout as delay } from 'node:timers/promises';
import { Kafka, type KafkaMessage } from 'kafkajs';
import { DeadLetterBox } from './dead-letter-box';

const TOPIC = 'things.dlq';
const LETTERS = ['0', '1'].map((offset) => ({ offset, timestamp: '0', headers: {} }) as KafkaMessage);

interface Consumption {
  /** Gives the consumer these records of the only partition. */
  readonly give: (messages: readonly KafkaMessage[]) => Promise<void>;
  /** Tells that kafkajs has stopped for an error, for good or to start again. */
  readonly crash: (error: Error, restart: boolean) => void;
}

describe('DeadLetterBox', () => {
  /** What the clock shows: each look at the topic takes six. */
  let seconds: number;
  let disconnect: jest.Mock;

  /** @param consume what happens once a consumer runs on a topic of two letters */
  function open(consume: (consumption: Consumption) => Promise<void>, visit?: (id: string) => void) {
    seconds = 0;
    jest.spyOn(performance, 'now').mockImplementation(() => seconds * 1_000);
    disconnect = jest.fn(async () => undefined);
    const connection = { connect: async () => undefined, disconnect };
    const admin = {
      ...connection,
      listTopics: async () => [TOPIC],
      fetchTopicOffsets: async () => {
        seconds += 6;
        return [{ partition: 0, low: '0', high: '2' }];
      },
      deleteGroups: async () => undefined,
    };
    jest.spyOn(Kafka.prototype, 'admin').mockReturnValue(admin as never);
    jest.spyOn(Kafka.prototype, 'producer').mockReturnValue(connection as never);
    jest.spyOn(Kafka.prototype, 'consumer').mockImplementation(() => {
      const listeners = new Map<string, (event: { payload: object }) => void>();
      const run = async ({ eachBatch }: { eachBatch: (payload: object) => Promise<void> }) => {
        const give = async (messages: readonly KafkaMessage[]) => {
          await eachBatch({ batch: { partition: 0, messages }, heartbeat: async () => undefined });
          const payload = { partition: 0, lastOffset: messages.at(-1)?.offset };
          listeners.get('end')?.({ payload });
        };
        void consume({ give, crash: (error, restart) => listeners.get('crash')?.({ payload: { error, restart } }) });
      };
      return {
        ...connection,
        events: { CRASH: 'crash', END_BATCH_PROCESS: 'end' },
        on: (name: string, listener: () => void) => listeners.set(name, listener),
        subscribe: async () => undefined,
        run,
      } as never;
    });
    return DeadLetterBox.open({ brokers: ['127.0.0.1:9'], consumerGroup: 'things' } as never, TOPIC, ({ id }) =>
      visit?.(id),
    );
  }
  afterEach(() => jest.restoreAllMocks());

  it('does not wait for ever for what does not come, and closes what it has opened', async () => {
    const opened = open(({ give }) => give(LETTERS.slice(0, 1)));
    await expect(opened).rejects.toThrow('things.dlq could not be read to its end: nothing came for 10 s');
    expect(seconds).toBeGreaterThanOrEqual(10);
    expect(disconnect).toHaveBeenCalledTimes(3);
  });

  it('does not take for silence that a letter takes long', async () => {
    const box = await open(({ give }) => give(LETTERS));
    const handled: string[] = [];
    await box.each(['0:0', '0:1'], async ({ id }) => {
      const end = seconds + 18;
      while (seconds < end) await delay(5);
      handled.push(id);
    });
    expect(handled).toEqual(['0:0', '0:1']);
  });

  it('reads each record once, though its consumer begins anew', async () => {
    const visited: string[] = [];
    await open(
      async ({ give, crash }) => {
        await give(LETTERS.slice(0, 1));
        crash(new Error('The coordinator moves'), true);
        await give(LETTERS);
      },
      (id) => visited.push(id),
    );
    expect(visited).toEqual(['0:0', '0:1']);
  });

  it('fails as its consumer does for good', async () => {
    const opened = open(async ({ crash }) => crash(new Error('Not authorized to access group'), false));
    await expect(opened).rejects.toThrow('Not authorized to access group');
  });
});
