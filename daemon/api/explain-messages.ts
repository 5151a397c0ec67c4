// SPDX-License-Identifier: Apache-2.0
// Converts the query and the result of `sluice explain` between model/explanation.ts and the messages of proto/sluice/v1. Pure.
// Called by grpc.ts.
import type { Explanation as ExplanationMessage } from '../../proto/gen/sluice/v1/Explanation.ts';
import type { PacketQuestion__Output } from '../../proto/gen/sluice/v1/PacketQuestion.ts';
import { ExitCode, ExitError } from '../base/errors.ts';
import type { Explanation, Origin, PacketQuery, SocketCall } from '../model/explanation.ts';
import type { Protocol } from '../model/service.ts';

const protocols: readonly string[] = ['TCP', 'UDP', 'SCTP'] satisfies Protocol[];
const calls: readonly string[] = ['connect', 'sendto'] satisfies SocketCall[];
const origins: readonly string[] = ['pod', 'node', 'external'] satisfies Origin[];

/** Throws an ExitError that names the invalid field. */
export function packetQuery(packet: PacketQuestion__Output): PacketQuery {
  if (!protocols.includes(packet.protocol))
    throw new ExitError(ExitCode.usage, `protocol must be TCP, UDP or SCTP, is "${packet.protocol}"`);
  if (packet.from !== '' && !origins.includes(packet.from)) {
    throw new ExitError(ExitCode.usage, `from must be pod, node or external, is "${packet.from}"`);
  }
  if (packet.call !== '' && !calls.includes(packet.call))
    throw new ExitError(ExitCode.usage, `call must be connect or sendto, is "${packet.call}"`);
  for (const [name, port] of Object.entries({ source_port: packet.sourcePort, dest_port: packet.destPort })) {
    if (port > 65_535) throw new ExitError(ExitCode.usage, `${name} must be from 0 to 65535, is ${port}`);
  }
  return {
    ...{ protocol: packet.protocol as Protocol, sourceIP: packet.sourceIp, sourcePort: packet.sourcePort },
    ...{ destIP: packet.destIp, destPort: packet.destPort },
    from: packet.from === '' ? undefined : (packet.from as Origin),
    iface: packet.iface === '' ? undefined : packet.iface,
    call: packet.call === '' ? undefined : (packet.call as SocketCall),
    destService: packet.destService === '' ? undefined : packet.destService,
  };
}

/** Sets every field. Exception: the frontend is absent when no frontend matches. */
export const explanationMessage = (explanation: Explanation): ExplanationMessage => ({
  ...{
    verdict: explanation.verdict,
    frontend: explanation.frontend,
    candidates: [...explanation.candidates],
    moreCandidates: explanation.moreCandidates,
    backend: explanation.backend ?? '',
  },
  ...{ masquerade: explanation.masquerade, reason: explanation.reason, steps: [...explanation.steps] },
});
