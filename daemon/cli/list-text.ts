// SPDX-License-Identifier: Apache-2.0
// The tables of `sluice service list` and `sluice backend list`. Pure. A line or cell that begins with "!" reports a difference
// between the desired state and the kernel, or a row that is not applied. Called by run.ts.
import type { Backend__Output as Backend } from '../../proto/gen/sluice/v1/Backend.ts';
import type { ServicePort__Output as ServicePort } from '../../proto/gen/sluice/v1/ServicePort.ts';
import { hostPort } from '../model/address.ts';
import { counted, tableLines } from './table.ts';

/** One row per frontend and one line per backend, followed by the differences. `isWide` adds scope, status, IDs and slots. */
export function servicesText(services: readonly ServicePort[], isWide: boolean): string {
  const titles = ['ID', 'Frontend', ...(isWide ? ['Scope', 'Status'] : []), 'Service', 'Type', 'Backend'];
  const rows = services.map((service) => rowsOf(service, isWide));
  const [header = [], ...blocks] = tableLines(titles, rows.flat());
  const lines = services.flatMap((service, index) => [
    ...blocks.splice(0, rows[index]?.length ?? 0).flat(),
    ...remarks(service).map((remark) => `  ! ${remark}`),
  ]);
  const differing = services.filter((service) => remarks(service).length > 0).length;
  const summary = differing === 0 ? [] : ['', `${differing} of ${counted(services.length, 'Service port')} differ from the desired state`];
  return `${[...header, ...lines, ...summary].join('\n')}\n`;
}

/** Columns of a frontend that do not depend on its Service port. */
interface FrontendColumns {
  readonly scope: string;
  readonly type: string;
  readonly policy: string;
}

function rowsOf(service: ServicePort, isWide: boolean): string[][] {
  const { id, wanted, namespace, name, portName } = service;
  const row = (frontend: string, { scope, type, policy }: FrontendColumns): string[] => [
    id === 0 ? '-' : String(id),
    frontend,
    ...(isWide ? [scope, rowStatus(service)] : []),
    wanted ? `${namespace}/${name}${portName === '' ? '' : `:${portName}`}` : '-',
    type === '' ? '-' : `${type}${policy === 'Local' ? ' (Local)' : ''}`,
    backendLines(service, policy, isWide).join('\n') || 'no backend',
  ];
  // A Service port has no frontend when another Service owns all of them.
  if (service.frontends.length === 0) return [row('-', { scope: '-', type: '', policy: '' })];
  return service.frontends.map((frontend) => row(`${hostPort(frontend.address, frontend.port)}/${frontend.protocol}`, frontend));
}

const rowStatus = ({ row, wanted }: ServicePort): string =>
  !wanted ? 'not desired' : (row?.state ?? '').replace('ROW_STATE_', '').toLowerCase();

/**
 * One line per desired backend that the policy selects. For policy Cluster, these are followed by one line per backend that is in a slot in
 * the kernel but not desired.
 */
function backendLines(service: ServicePort, policy: string, isWide: boolean): string[] {
  const isLocalSet = policy === 'Local';
  const inKernel = new Map(isLocalSet ? [] : service.run.map((each) => [hostPort(each.address, each.port), each]));
  const shown = isLocalSet ? service.backends.filter(({ locallyUsable }) => locallyUsable) : service.backends;
  const lines = shown.map(({ address, port, state, local }) => {
    const at = hostPort(address, port);
    const inRun = inKernel.get(at);
    inKernel.delete(at);
    const words = [state.replace('BACKEND_STATE_', '').toLowerCase()];
    if (isWide && local) words.push('local');
    if (isWide && inRun !== undefined) words.push(`id ${inRun.id}`, counted(inRun.slots, 'slot'));
    return { at, words };
  });
  for (const [at, { id, slots }] of inKernel)
    lines.push({ at, words: ['kernel only', ...(isWide ? [`id ${id}`, counted(slots, 'slot')] : [])] });
  const texts = lines.map(({ at, words }, index) => `${index + 1} => ${at}/${service.protocol} (${words.join(', ')})`);
  return service.moreBackends === 0 ? texts : [...texts, `and ${service.moreBackends} more`];
}

function remarks(service: ServicePort): string[] {
  const { row, wanted, differences } = service;
  const remark = [...differences];
  if (service.moreFrontends > 0) remark.push(`${counted(service.moreFrontends, 'frontend')} not shown`);
  if (wanted && row?.state === 'ROW_STATE_ERROR') remark.push(`${counted(row.retries, 'attempt')} failed: ${row.message}`);
  if (wanted && row?.state === 'ROW_STATE_PENDING') remark.push('not applied yet');
  return remark;
}

/** One row per backend entry in the kernel. */
export function backendsText(backends: readonly Backend[]): string {
  const rows = backends.map((backend) => [
    String(backend.id),
    hostPort(backend.address, backend.port),
    String(backend.generation),
    backend.flags.join(','),
    backend.wanted ? backend.service : `! not desired${backend.service === '' ? '' : ` (${backend.service})`}`,
    [...backend.frontends, ...(backend.moreFrontends === 0 ? [] : [`and ${backend.moreFrontends} more`])].join('\n'),
  ]);
  const lines = tableLines(['ID', 'Backend', 'Generation', 'Flags', 'Service', 'Frontend'], rows);
  return `${lines.flat().join('\n')}\n`;
}
