// SPDX-License-Identifier: Apache-2.0
// Runs the checks of all folders of daemon/, in the order in which sluiced would run them. Changes nothing. A failed check has the
// exit code that sluiced would end with; a problem with which sluiced could still start is a warning. Called by cli/preflight.ts.
import { type Check, CheckWarning } from '../base/check.ts';
import { ExitCode, KernelError, ExitError } from '../base/errors.ts';
import { cgroupCheck, datapathChecks, orderChecks, pinPathCheck, type SocketSettings } from '../bpf/checks.ts';
import { Datapath, objectsPath } from '../bpf/datapath.ts';
import { mapSizes, type MapLimits } from '../bpf/map-sizes.ts';
import { PinDirectory } from '../bpf/pins.ts';
import { deviceChecks, hostChecks } from '../host/checks.ts';
import { forwardingProblems } from '../host/forwarding.ts';
import type { Family } from '../model/address.ts';
import { sourceCheck } from '../source/files/check.ts';

/** The settings of sluiced with the same names. */
export interface PreflightSettings extends MapLimits, SocketSettings {
  readonly source?: string | undefined;
  readonly pinPath: string;
  readonly snatPorts: readonly { readonly first: number; readonly last: number }[];
  readonly uplinks: readonly string[];
  readonly podInterfaces: readonly string[];
}

export interface CheckResult {
  readonly name: string;
  readonly state: 'ok' | 'warning' | 'failed';
  /** The finding; when not ok, it includes the next step. */
  readonly message: string;
  /** The exit code of sluiced: 0 unless failed. */
  readonly exitCode: number;
}

/** The results of all checks. */
export function preflight(settings: PreflightSettings): CheckResult[] {
  const pins = new PinDirectory(settings.pinPath);
  const datapath = new Datapath(pins, { objectsPath, sizes: mapSizes(settings) });
  const checks = [
    ...hostChecks(settings),
    pinPathCheck(pins),
    ...datapathChecks(datapath),
    cgroupCheck(settings),
    ...deviceChecks(settings),
    ...orderChecks(settings.uplinks, pins),
    sourceCheck(settings.source),
  ];
  return [...checks.map(resultOf), ...forwardingWarnings(settings)];
}

function resultOf({ name, run }: Check): CheckResult {
  try {
    return { name, state: 'ok', message: run(), exitCode: ExitCode.ok };
  } catch (error) {
    if (error instanceof CheckWarning) return { name, state: 'warning', message: error.message, exitCode: ExitCode.ok };
    if (error instanceof ExitError) return { name, state: 'failed', message: error.message, exitCode: error.exitCode };
    // Usually the consequence of an earlier failed check, such as EPERM after the check of the capabilities failed.
    if (error instanceof KernelError) return { name, state: 'failed', message: error.message, exitCode: ExitCode.kernel };
    throw error;
  }
}

function forwardingWarnings({ socketLb, podInterfaces, uplinks }: PreflightSettings): CheckResult[] {
  const problems = forwardingProblems({
    ...{ serviceAddresses: [], hasSocketLb: socketLb, families: new Set<Family>(['IPv4', 'IPv6']) },
    hasDevices: podInterfaces.length + uplinks.length > 0,
  });
  return problems.map((message) => ({ name: 'host', state: 'warning', message, exitCode: ExitCode.ok }));
}
