// SPDX-License-Identifier: Apache-2.0
// The text of `sluice status`: one line "Key:  State  detail" per subject, with the problems indented below it. Pure. The agent decides
// how severe each subject is; the exit code follows its decision. Called by run.ts.
import type { DeviceRole__Output as DeviceRole } from '../../proto/gen/sluice/v1/DeviceRole.ts';
import type { Severity__Output as Severity } from '../../proto/gen/sluice/v1/Severity.ts';
import type { StatusResponse__Output as Status } from '../../proto/gen/sluice/v1/StatusResponse.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import { counted, tableLines } from './table.ts';

const words: Readonly<Record<Severity, string>> = {
  SEVERITY_UNSPECIFIED: 'Unknown',
  SEVERITY_OK: 'Ok',
  SEVERITY_WARNING: 'Warning',
  SEVERITY_DEGRADED: 'Degraded',
  SEVERITY_NOT_READY: 'NotReady',
};

/**
 * Whether the agent reports nothing worse than a Warning. Throws ExitError when the agent reports no severity, because older versions do
 * not.
 */
export function isHealthy({ severity }: Status): boolean {
  if (severity === 'SEVERITY_UNSPECIFIED')
    throw new ExitError(ExitCode.failure, 'the daemon does not report a status: use the sluice command of the same version as the daemon');
  return severity === 'SEVERITY_OK' || severity === 'SEVERITY_WARNING';
}

/** The whole text of `sluice status`. */
export function statusText(status: Status): string {
  const keyWidth = Math.max(...status.lines.map(({ subject }) => subject.length)) + 1;
  const wordWidth = Math.max(...status.lines.map(({ severity }) => words[severity].length));
  const block = status.lines.flatMap(({ subject, severity, summary, details: below }) => [
    `${`${subject}:`.padEnd(keyWidth)}   ${words[severity].padEnd(wordWidth)}   ${summary}`.trimEnd(),
    ...below.map((each) => `  - ${each}`),
  ]);
  return `${[...block, ...details(status)].join('\n')}\n`;
}

function details(status: Status): string[] {
  const drops = status.drops.filter(({ packets }) => packets !== '0');
  const attached = status.attachments.map(({ hook, target, kind, program }) => {
    return `  ${program} on ${target} ${hook} (${kind.replace('ATTACHMENT_KIND_', '').toLowerCase()})`;
  });
  return [
    '',
    ...deviceLines(status),
    `Programs that sluiced keeps attached:${attached.length === 0 ? ' none' : ''}`,
    ...attached,
    `Dropped packets since the maps were created:${drops.length === 0 ? ' none' : ''}`,
    ...drops.map(({ reason, packets, bytes }) => `  ${reason}: ${counted(packets, 'packet')}, ${counted(bytes, 'byte')}`),
  ];
}

const roles: Readonly<Record<DeviceRole, string>> = {
  DEVICE_ROLE_UNSPECIFIED: 'unknown',
  DEVICE_ROLE_NONE: 'none',
  DEVICE_ROLE_POD: 'pod',
  DEVICE_ROLE_UPLINK: 'uplink',
};

/** The devices with their roles. A daemon of an earlier version reports none. */
function deviceLines({ devices, moreDevices }: Status): string[] {
  if (devices.length === 0) return [];
  const rows = devices.map(({ name, role, reason }) => [`  ${name}`, roles[role], reason]);
  const lines = tableLines(['  Device', 'Role', 'Reason'], rows).flat();
  return ['Network devices:', ...lines, ...(moreDevices === 0 ? [] : [`  and ${moreDevices} more`])];
}
