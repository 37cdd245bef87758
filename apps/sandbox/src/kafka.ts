import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Kafka, logLevel } from 'kafkajs';
import { isAlive } from './program';

/** Version that the project is tested with, of the Docker image and of the Maven artifact. */
const VERSION = '4.4.0';
const CLUSTER_ID = 'b3JkZXItYTJhLXNhbmRib3g';
const STARTS_WITHIN_MS = 90_000;

/** The broker's properties, wherever it runs. */
const PROPERTIES = {
  'process.roles': 'broker,controller',
  'node.id': '1',
  'controller.listener.names': 'CONTROLLER',
  'auto.create.topics.enable': 'false',
  'offsets.topic.replication.factor': '1',
  'transaction.state.log.replication.factor': '1',
  'transaction.state.log.min.isr': '1',
  'offsets.topic.num.partitions': '1', // the first group waits until all exist, by default 50
  'group.initial.rebalance.delay.ms': '0',
};

const run = promisify(execFile);

export interface KafkaBroker {
  readonly address: string;
  /** File of the broker's output. */
  readonly log: string;
  /** The broker's own process; for Docker, the client that is attached to it. */
  readonly process: ChildProcess;
  stop(): Promise<void>;
}

export interface KafkaOptions {
  readonly port: number;
  /** Port of the KRaft controller; only used on the JVM. */
  readonly controllerPort: number;
  /** Kafka's output and, on the JVM, its log segments, which are kept between starts. With Docker it begins empty. */
  readonly dataDir: string;
  /** Where Kafka's jars are kept once Maven has downloaded them. */
  readonly libDir: string;
}

/**
 * Starts a real Apache Kafka (KRaft, one node) on 127.0.0.1: with Docker if an engine answers, else on the JVM with
 * Maven's artifacts. `auto.create.topics.enable` is off.
 * @throws {Error} one line, when neither is available
 */
export async function startKafka(options: KafkaOptions): Promise<KafkaBroker> {
  return start(options, (await hasDocker()) ? startOnDocker : startOnJvm);
}

/**
 * Starts Kafka on the JVM even if there is Docker: as a process that can be stopped and killed with signals.
 * @param properties of the broker, which override the usual ones
 */
export async function startKafkaOnJvm(
  options: KafkaOptions,
  properties?: Readonly<Record<string, string>>,
): Promise<KafkaBroker> {
  return start(options, (_, out) => startOnJvm(options, out, properties));
}

async function start(
  options: KafkaOptions,
  starter: (options: KafkaOptions, out: number) => Promise<ChildProcess>,
): Promise<KafkaBroker> {
  mkdirSync(options.dataDir, { recursive: true });
  const log = path.join(options.dataDir, 'kafka.log');
  const out = openSync(log, 'a');
  const child = await starter(options, out).finally(() => closeSync(out));
  const pidFile = pidFileIn(options.dataDir);
  writeFileSync(pidFile, String(child.pid));
  child.once('exit', () => rmSync(pidFile, { force: true }));
  const address = `127.0.0.1:${options.port}`;
  const stop = async () => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGTERM');
    await exit;
  };
  const ended = once(child, 'exit').then(() => {
    throw new Error(`Kafka ended before it was ready (${lastLine(log)}); its log is ${log}`);
  });
  try {
    await Promise.race([untilAnswers(address), ended]);
    return { address, log, process: child, stop };
  } catch (error) {
    await stop();
    throw error;
  } finally {
    ended.catch(() => undefined);
  }
}

/** @throws {Error} when a broker runs on this directory: a second one there would end it */
export function assertNoBroker(dataDir: string): void {
  const pidFile = pidFileIn(dataDir);
  const pid = existsSync(pidFile) ? Number(readFileSync(pidFile, 'utf8')) : NaN;
  if (pid > 0 && isAlive(pid))
    throw new Error(
      `Kafka runs here already (process ${pid}). Stop it first, or delete ${pidFile} if that is another program.`,
    );
}

const pidFileIn = (dataDir: string) => path.join(dataDir, 'kafka.pid');

/** Whether a broker can be started here at all: with Docker, or on the JVM. */
export async function canStartKafka(): Promise<boolean> {
  return (await hasDocker()) || canStartKafkaOnJvm();
}

/** Whether there are Java and Maven. */
export async function canStartKafkaOnJvm(): Promise<boolean> {
  return (await succeeds('java', ['-version'])) && succeeds('mvn', ['-version']);
}

const hasDocker = () => succeeds('docker', ['info']);

async function succeeds(command: string, args: string[]): Promise<boolean> {
  return run(command, args, { timeout: 20_000 }).then(
    () => true,
    () => false,
  );
}

async function startOnDocker({ port }: KafkaOptions, out: number): Promise<ChildProcess> {
  const settings = {
    ...PROPERTIES,
    'controller.quorum.voters': '1@localhost:9093',
    listeners: `PLAINTEXT://:${port},CONTROLLER://:9093`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${port}`,
    'listener.security.protocol.map': 'PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT',
  };
  const variable = (name: string) => `KAFKA_${name.replaceAll('.', '_').toUpperCase()}`;
  const environment = Object.entries(settings).flatMap(([name, value]) => ['-e', `${variable(name)}=${value}`]);
  const args = ['run', '--rm', '-p', `127.0.0.1:${port}:${port}`, ...environment, `apache/kafka:${VERSION}`];
  return spawn('docker', args, { detached: true, stdio: ['ignore', out, out] });
}

async function startOnJvm(
  options: KafkaOptions,
  out: number,
  properties: Readonly<Record<string, string>> = {},
): Promise<ChildProcess> {
  const classpath = path.join(await fetchJars(options.libDir), '*');
  const file = path.join(options.dataDir, 'server.properties');
  const settings = {
    ...PROPERTIES,
    'controller.quorum.bootstrap.servers': `127.0.0.1:${options.controllerPort}`,
    listeners: `PLAINTEXT://127.0.0.1:${options.port},CONTROLLER://127.0.0.1:${options.controllerPort}`,
    'advertised.listeners': `PLAINTEXT://127.0.0.1:${options.port}`,
    'log.dirs': path.join(options.dataDir, 'log'),
    ...properties,
  };
  writeFileSync(
    file,
    Object.entries(settings)
      .map(([name, value]) => `${name}=${value}\n`)
      .join(''),
  );
  if (!existsSync(path.join(settings['log.dirs'], 'meta.properties'))) {
    const format = ['format', '--standalone', '-t', CLUSTER_ID, '-c', file];
    await run('java', ['-cp', classpath, 'kafka.tools.StorageTool', ...format]);
  }
  return spawn('java', ['-Xmx512m', '-cp', classpath, 'kafka.Kafka', file], {
    detached: true,
    stdio: ['ignore', out, out],
  });
}

/** Downloads Kafka and its dependencies with Maven, once. @returns the directory of the jars */
async function fetchJars(libDir: string): Promise<string> {
  const target = path.join(libDir, VERSION);
  const complete = path.join(target, '.complete');
  if (existsSync(complete)) return target;
  mkdirSync(target, { recursive: true });
  const pom = path.join(target, 'pom.xml');
  const dependency = (group: string, artifact: string, version: string) =>
    `<dependency><groupId>${group}</groupId><artifactId>${artifact}</artifactId><version>${version}</version></dependency>`;
  writeFileSync(
    pom,
    `<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
    <groupId>sandbox</groupId><artifactId>kafka</artifactId><version>1</version><packaging>pom</packaging>
    <dependencies>
      ${dependency('org.apache.kafka', 'kafka_2.13', VERSION)}
      ${dependency('org.slf4j', 'slf4j-simple', '1.7.36')}
    </dependencies></project>`,
  );
  const goal = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies';
  await run('mvn', ['-q', '-B', '-f', pom, goal, '-DincludeScope=runtime', `-DoutputDirectory=${target}`]).catch(
    (error: { code?: unknown; stdout?: string }) => {
      if (error.code === 'ENOENT')
        throw new Error('Kafka needs a Docker engine, or Java 17 and Maven; neither is here');
      throw new Error(`Maven could not download Kafka: ${error.stdout?.trim().split('\n')[0] ?? 'no reason given'}`);
    },
  );
  writeFileSync(complete, '');
  return target;
}

async function untilAnswers(address: string): Promise<void> {
  const deadline = Date.now() + STARTS_WITHIN_MS;
  const kafka = new Kafka({ brokers: [address], logLevel: logLevel.NOTHING, retry: { retries: 0 } });
  for (;;) {
    const admin = kafka.admin();
    try {
      await admin.connect();
      await admin.describeCluster();
      return;
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await delay(100);
    } finally {
      await admin.disconnect().catch(() => undefined);
    }
  }
}

const lastLine = (file: string) => readFileSync(file, 'utf8').trim().split('\n').at(-1) ?? '';
