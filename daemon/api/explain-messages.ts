// SPDX-License-Identifier: Apache-2.0
// Questions and answers of `sluice explain` between model/explanation.ts and the messages of proto/sluice/v1. Pure.
import type { Explanation as ExplanationMessage } from '../../proto/gen/sluice/v1/Explanation.ts';
import type { PacketQuestion__Output } from '../../proto/gen/sluice/v1/PacketQuestion.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import type { Explanation, Origin, PacketQuery } from '../model/explanation.ts';
import type { Protocol } from '../model/service.ts';

const protocols: readonly string[] = ['TCP', 'UDP', 'SCTP'] satisfies Protocol[];
const origins: readonly string[] = ['pod', 'node', 'external'] satisfies Origin[];

/** Throws ExitError that names the field. */
export function packetQuery(packet: PacketQuestion__Output): PacketQuery {
  if (!protocols.includes(packet.protocol))
    throw new ExitError(ExitCode.usage, `protocol must be TCP, UDP or SCTP, is "${packet.protocol}"`);
  if (packet.from !== '' && !origins.includes(packet.from)) {
    throw new ExitError(ExitCode.usage, `from must be pod, node or external, is "${packet.from}"`);
  }
  for (const [name, port] of Object.entries({ source_port: packet.sourcePort, dest_port: packet.destPort })) {
    if (port > 65_535) throw new ExitError(ExitCode.usage, `${name} must be 0..65535, is ${port}`);
  }
  return {
    ...{ protocol: packet.protocol as Protocol, sourceIP: packet.sourceIp, sourcePort: packet.sourcePort },
    ...{ destIP: packet.destIp, destPort: packet.destPort },
    from: packet.from === '' ? undefined : (packet.from as Origin),
    iface: packet.iface === '' ? undefined : packet.iface,
  };
}

/** Every field is set but the frontend of a packet that hits none. */
export const explanationMessage = (explanation: Explanation): ExplanationMessage => ({
  ...{
    verdict: explanation.verdict,
    frontend: explanation.frontend,
    candidates: [...explanation.candidates],
    backend: explanation.backend ?? '',
  },
  ...{ masquerade: explanation.masquerade, reason: explanation.reason, steps: [...explanation.steps] },
});
