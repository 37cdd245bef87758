interface Piece {
  stop(): Promise<void>;
}

/** The servers and processes that a program has started, to stop all of them whatever happens. */
export class Pieces {
  private readonly started: Promise<Piece>[] = [];
  private stopping: Promise<void> | undefined;

  get areStopping(): boolean {
    return this.stopping !== undefined;
  }

  /** Starts a piece. @throws {Error} when everything is being stopped */
  start<T extends Piece>(starter: () => Promise<T>): Promise<T> {
    if (this.stopping) throw new Error('The sandbox is being stopped');
    const starting = starter();
    this.started.push(starting);
    return starting;
  }

  /** Stops what was started, last first; what is still starting is awaited, so that it leaves no process behind. */
  stop(): Promise<void> {
    this.stopping ??= (async () => {
      for (const starting of this.started.reverse()) {
        const piece = await starting.catch(() => undefined);
        await piece?.stop().catch((error: unknown) => console.error(error)); // the others are stopped all the same
      }
    })();
    return this.stopping;
  }
}
