// SPDX-License-Identifier: Apache-2.0
// sluiced: reads the settings, starts the units of the agent in order, waits for a signal, and stops the units in reverse order.
// It must never detach the programs or remove the maps: they continue to work in the kernel after the process has ended or
// crashed. When a start fails, one message is printed on stderr and the exit code tells the cause.
import type { Logger } from 'pino';
import { type Agent, buildAgent } from './agent/agent.ts';
import { openDatapath } from './agent/datapath.ts';
import { accessText, findSourceAccess } from './agent/source.ts';
import { systemClock } from './base/clock.ts';
import { configFromCommandLine } from './config/command-line.ts';
import type { Config } from './config/schema.ts';
import { readSettingsText } from './config/sources.ts';
import { ExitCode } from './base/errors.ts';
import { exitOf } from './base/reasons.ts';
import { exitNow, notifyServiceManager } from './kernel/host.ts';
import { Lifecycle } from './base/lifecycle.ts';
import { createLog, subsystem } from './base/log.ts';
import { LogOutput } from './base/log-output.ts';
import { printable } from './base/printable.ts';
import { releaseMemory } from './base/memory.ts';
import { versions } from './host/version.ts';

const FORCED_EXIT_MS = 4900;
const output = new LogOutput();

/**
 * Resolves with the first signal that asks the daemon to stop. The kernel discards a signal that process 1 of a container does not handle,
 * so this is called before anything that takes time. SIGHUP has no effect until the agent exists. From then on, it makes the agent read its
 * sources again.
 */
function firstStopSignal(): Promise<NodeJS.Signals> {
  process.on('SIGHUP', () => undefined);
  return new Promise((resolve) => {
    process.once('SIGTERM', resolve);
    process.once('SIGINT', resolve);
  });
}

/** Runs the daemon until a signal arrives. Returns the exit code. */
async function run(config: Config): Promise<number> {
  const stopSignal = firstStopSignal();
  const log = await createLog(config, output);
  output.reportDrops(log);
  process.once('uncaughtException', (err) => void endWithBug(err, log));
  const access = findSourceAccess(config);
  log.info({ ...versions(), node: config.node, source: accessText(access), pinPath: config.pinPath }, 'starting');
  const opened = openDatapath(config);
  try {
    return await serve(buildAgent({ config, log, access, opened, logStatus: () => output.status }), { log, stopSignal });
  } finally {
    opened.close();
  }
}

/** Starts the units, waits for the signal and stops them. Returns the exit code. */
async function serve(agent: Agent, { log, stopSignal }: { log: Logger; stopSignal: Promise<NodeJS.Signals> }): Promise<number> {
  const stopped = Promise.withResolvers<number>();
  const lifecycle = new Lifecycle({
    units: agent.units,
    clock: systemClock,
    onEvent: ({ unit, did, ms }) => log.debug({ unit, ms: Math.round(ms) }, did),
  });
  const stop = async (signal: NodeJS.Signals): Promise<void> => {
    log.info({ signal }, 'stopping; programs and maps stay in the kernel');
    notifyServiceManager('STOPPING=1');
    setTimeout(() => exitNow(ExitCode.failure), FORCED_EXIT_MS).unref();
    const report = await lifecycle.stop();
    for (const unit of report.unstopped) log.error({ unit }, 'the unit did not stop in time');
    for (const { unit, error: err } of report.failures) log.error({ unit, err }, 'the unit failed to stop');
    stopped.resolve(report.unstopped.length + report.failures.length === 0 ? ExitCode.ok : ExitCode.failure);
  };
  void stopSignal.then(stop);
  process.on(
    'SIGHUP',
    coalesced(() => reread(() => agent.reread(), log)),
  );

  try {
    await lifecycle.start();
  } catch (error) {
    // A signal during the start is not a failure.
    if (error instanceof DOMException && error.name === 'AbortError') return stopped.promise;
    throw error;
  }
  void agent.ready.then(() => reportReady(agent, log)).catch((err: unknown) => log.error({ err }, 'the status cannot be read'));
  return stopped.promise;
}

function reportReady(agent: Agent, log: Logger): void {
  notifyServiceManager('READY=1');
  const { counts, hostProblems } = agent.view.status();
  for (const problem of hostProblems) subsystem(log, 'host').warn(problem);
  log.info({ ...counts, ms: Math.round(performance.now()) }, 'ready');
  log.debug({ MiB: Math.round(releaseMemory()) }, 'released memory');
}

/** A broken invariant ends the process, because its state cannot be trusted. The service manager starts the daemon again. */
async function endWithBug(err: unknown, log: Logger): Promise<void> {
  log.fatal({ err }, 'unexpected error, the daemon ends');
  await output.flush();
  exitNow(ExitCode.failure);
}

/** Calls that arrive while `work` runs cause one more run after it, so that a burst of signals cannot queue more work. */
function coalesced(work: () => Promise<void>): () => void {
  let isRequested = false;
  let isRunning = false;
  const repeat = async (): Promise<void> => {
    isRunning = true;
    while (isRequested) {
      isRequested = false;
      await work();
    }
    isRunning = false;
  };
  return () => {
    isRequested = true;
    if (!isRunning) void repeat();
  };
}

async function reread(rescan: () => Promise<void>, log: Logger): Promise<void> {
  log.info('SIGHUP: reading the sources again');
  notifyServiceManager('RELOADING=1');
  try {
    await rescan();
  } catch (err) {
    log.error({ err }, 'the sources could not be read');
  }
  notifyServiceManager('READY=1');
}

async function main(): Promise<number> {
  try {
    const config = configFromCommandLine({
      argv: process.argv.slice(2),
      env: process.env,
      readFile: readSettingsText,
      versions,
      print: (text) => process.stdout.write(text),
    });
    return config === undefined ? ExitCode.ok : await run(config);
  } catch (error) {
    const known = exitOf(error);
    if (known === undefined) throw error;
    output.write(`sluiced: ${printable(known.message)}\n`);
    return known.exitCode;
  }
}

const exitCode = await main();
if (!(await output.flush())) exitNow(exitCode);
process.exit(exitCode);
