// SPDX-License-Identifier: Apache-2.0
// Runs the checks of all folders of daemon/, in the order in which sluiced would run them. Changes nothing. A failed check has the exit
// code that sluiced would end with, or 1 when sluiced would start and not become ready. A problem that would not prevent sluiced from
// serving is a warning. A check that was not made is skipped, with the reason. Called by cli/preflight.ts.
import { type Check, CheckSkipped, CheckWarning } from '../base/check.ts';
import { systemClock } from '../base/clock.ts';
import { ExitCode, KernelError, ExitError } from '../base/errors.ts';
import { cgroupCheck, datapathChecks, orderChecks, pinPathCheck, type SocketSettings } from '../bpf/checks.ts';
import { Datapath, objectsPath } from '../bpf/datapath.ts';
import { mapSizes, type MapLimits } from '../bpf/map-sizes.ts';
import { PinDirectory } from '../bpf/pins.ts';
import { forwardCheck } from '../firewall/forward-hook.ts';
import { deviceChecks, hostChecks, serviceCidrChecks } from '../host/checks.ts';
import { versions } from '../host/version.ts';
import { forwardingProblems } from '../host/forwarding.ts';
import { portChecks, type PortSettings } from '../host/ports.ts';
import type { Family } from '../model/address.ts';
import { type DeviceSettings, type JudgedDevice, usesDevices } from '../model/device.ts';
import { deviceRoles } from '../services/desired/device-roles.ts';
import { sourceCheck } from '../source/files/check.ts';
import { checkAccess } from '../source/kubernetes/access-check.ts';
import { findAccess, type FoundAccess } from '../source/kubernetes/find-access.ts';
import { readDeviceFacts } from '../source/netlink/device-facts.ts';

/** The settings of sluiced with the same names. */
export interface PreflightSettings extends MapLimits, SocketSettings, PortSettings, DeviceSettings {
  readonly source?: string | undefined;
  readonly kubeconfig?: string | undefined;
  readonly apiServer: readonly URL[];
  readonly node: string;
  readonly pinPath: string;
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  readonly serviceCidr: readonly string[];
  readonly clusterCidr: readonly string[];
  readonly acceptForwarded: boolean;
}

export interface CheckResult {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed' | 'skipped';
  /** The finding; for a warning or a failure it includes the next step. */
  readonly message: string;
  /** The exit code of sluiced, or 1 when sluiced would start and not become ready; 0 unless failed. */
  readonly exitCode: number;
}

/** The results of all checks. `env` is the environment of sluiced. */
export async function preflight(settings: PreflightSettings, env: Readonly<NodeJS.ProcessEnv>): Promise<CheckResult[]> {
  const pins = new PinDirectory(settings.pinPath);
  const datapath = new Datapath(pins, { objectsPath, sizes: mapSizes(settings) });
  const devices = findDevices(settings);
  const checks = [
    ...hostChecks(settings),
    pinPathCheck(pins),
    ...datapathChecks(datapath),
    cgroupCheck(settings),
    ...deviceChecks(settings, () => devices.judged()),
    ...orderChecks(devices.uplinks, pins),
    ...(usesDevices(settings) ? [forwardCheck(settings)] : []),
    ...portChecks(settings),
    ...serviceCidrChecks(settings),
  ];
  return [...checks.map(resultOf), ...(await sourceResults(settings, env)), ...forwardingWarnings(settings)];
}

interface FoundDevices {
  /** Every device with its role. Throws KernelError if the devices could not be read. */
  readonly judged: () => readonly JudgedDevice[];
  /** Names of the uplinks: those of the settings, or those that were found. */
  readonly uplinks: readonly string[];
}

function findDevices(settings: DeviceSettings): FoundDevices {
  const named = settings.uplinks === 'auto' ? undefined : settings.uplinks;
  try {
    const judged = deviceRoles(readDeviceFacts(), settings);
    return { judged: () => judged, uplinks: named ?? judged.filter(({ role }) => role === 'uplink').map(({ name }) => name) };
  } catch (error) {
    if (!(error instanceof KernelError)) throw error;
    return {
      judged: () => {
        throw error;
      },
      uplinks: named ?? [],
    };
  }
}

async function sourceResults(settings: PreflightSettings, env: Readonly<NodeJS.ProcessEnv>): Promise<CheckResult[]> {
  const { source, kubeconfig, apiServer: apiServers, node } = settings;
  if (source !== undefined) {
    const message = `the source is the directory ${source}, so sluiced does not use an API server`;
    return [resultOf(sourceCheck(source)), { name: 'API server', state: 'skipped', message, exitCode: ExitCode.ok }];
  }
  let found: FoundAccess | undefined;
  const access = resultOf({
    name: 'source',
    run: () => {
      found = findAccess({ kubeconfig, apiServers, env, clock: systemClock });
      return `the API server, with ${found.access.description}`;
    },
  });
  if (found === undefined) return [access];
  const answers = await checkAccess({ found, node, clock: systemClock, userAgent: `sluiced/${versions().version}` });
  return [access, ...answers.map((answer) => ({ ...answer, exitCode: answer.state === 'failed' ? ExitCode.failure : ExitCode.ok }))];
}

function resultOf({ name, run }: Check): CheckResult {
  try {
    return { name, state: 'ok', message: run(), exitCode: ExitCode.ok };
  } catch (error) {
    if (error instanceof CheckSkipped) return { name, state: 'skipped', message: error.message, exitCode: ExitCode.ok };
    if (error instanceof CheckWarning) return { name, state: 'warning', message: error.message, exitCode: ExitCode.ok };
    if (error instanceof ExitError) return { name, state: 'failed', message: error.message, exitCode: error.exitCode };
    // Usually the consequence of an earlier failed check, such as EPERM after the check of the capabilities failed.
    if (error instanceof KernelError) return { name, state: 'failed', message: error.message, exitCode: ExitCode.kernel };
    throw error;
  }
}

function forwardingWarnings(settings: PreflightSettings): CheckResult[] {
  const problems = forwardingProblems({
    ...{ serviceAddresses: [], hasSocketLb: settings.socketLb, families: new Set<Family>(['IPv4', 'IPv6']) },
    hasDevices: usesDevices(settings),
  });
  return problems.map((message) => ({ name: 'host', state: 'warning', message, exitCode: ExitCode.ok }));
}
