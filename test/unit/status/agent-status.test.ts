// SPDX-License-Identifier: Apache-2.0
// The status of the agent. It must report the real state of the tables, loops and attachments, and not what the settings request.
import { beforeEach, expect, test } from 'vitest';
import { KernelError } from '../../../daemon/base/errors.ts';
import type { DesiredPort } from '../../../daemon/model/frontend.ts';
import { agentView, type AgentStatusParts } from '../../../daemon/status/agent-status.ts';
import { statusLines } from '../../../daemon/status/severity.ts';
import type { AgentView } from '../../../daemon/status/view.ts';
import { Reconciler } from '../../../daemon/table/reconciler.ts';
import { Table } from '../../../daemon/table/table.ts';
import { ManualScheduler, FakeClock } from '../../support/fake-clock.ts';
import { fakeLbMaps } from '../../support/fake-maps.ts';

const nothing = { problems: () => [] };

/** An agent whose tables and loops a test fills. */
class Agent {
  readonly scheduler = new ManualScheduler();
  readonly clock = new FakeClock();
  readonly services = new Table<string, object>('services', this.scheduler.schedule);
  readonly slices = new Table<string, object>('slices', this.scheduler.schedule);
  readonly desired = new Table<string, DesiredPort>('desired', this.scheduler.schedule);
  readonly host = new Table<string, object>('host', this.scheduler.schedule);
  readonly initialize = Object.fromEntries(
    (['services', 'slices', 'desired', 'host'] as const).map((name) => [name, this[name].registerSource('test')]),
  );
  /** If set, each prune of the host loop throws this error. */
  failure: Error | undefined;
  attachments: ReturnType<AgentStatusParts['attachments']> = [];
  readonly loops = { ports: this.#loop(this.desired), host: this.#loop(this.host, () => this.failure) };
  readonly view: AgentView = agentView({
    ...{ node: 'node-a', versions: { version: '0', commit: '', libbpf: '1', kernel: '6' }, services: this.services },
    source: { name: 'files /x', isComplete: true, problems: () => [] },
    ...{ objects: [this.services, this.slices], desired: this.desired, otherTables: [this.host] },
    ...{ portLoop: this.loops.ports, loops: this.loops, maps: fakeLbMaps() },
    mapInfos: () => [
      { name: 'lb4_ranges', type: 11, maxEntries: 64, flag: 'max-frontends' },
      { name: 'ct4', type: 9, maxEntries: 64 },
    ],
    ...{ pressure: () => [], owners: () => new Map(), drops: () => [], attachments: () => this.attachments, devices: () => [], host: [] },
    ...{
      repairs: { total: 0, last: () => [] },
      drift: nothing,
      conflicts: () => [],
      conflictCount: () => 0,
      unserved: () => ({ refused: [], excluded: [] }),
      log: () => ({ droppedLines: 0, reason: undefined }),
      explain: () => [],
      explainReady: () => Promise.resolve(),
    },
    ...{ ranges: new Table<string, never>('ranges', () => undefined), settings: [], healthCheckPort: () => 0 },
    handover: { phase: 'serving', openFlows: undefined },
    findings: {
      ...{
        node: nothing,
        firewall: nothing,
        devices: { summary: () => '1 uplink', problems: () => ['missing'] },
        missingPrograms: nothing,
      },
      ...{ otherAgents: nothing, displacedPrograms: nothing, programsAhead: nothing, mapSizes: nothing, networkPolicies: nothing },
    },
  });

  #loop<Row>(table: Table<string, Row>, failure: () => Error | undefined = () => undefined): Reconciler<string, Row> {
    const prune = (): boolean => {
      const error = failure();
      if (error !== undefined) throw error;
      return true;
    };
    const silent = { rowFailed: () => 0, rowRecovered: () => 0, stepFailed: () => 0, stepRecovered: () => 0, repaired: () => 0 };
    return new Reconciler<string, Row>({
      ...{ table, clock: this.clock, schedule: this.scheduler.schedule, log: silent },
      operations: {
        ...{ restore: () => undefined, update: () => undefined, delete: () => undefined, prune, freed: () => 0, freesAt: () => undefined },
        *repair() {
          // Nothing to compare.
        },
      },
    });
  }

  start(): void {
    for (const loop of Object.values(this.loops)) loop.start();
    this.scheduler.flush();
  }

  severities(): string[] {
    return statusLines(this.view.status()).flatMap(({ subject, severity }) => (severity === 'Ok' ? [] : [`${subject} ${severity}`]));
  }
}

let agent: Agent;
beforeEach(() => {
  agent = new Agent();
});

const initialize = (...names: string[]): void => names.forEach((name) => agent.initialize[name]?.());

test('the first list is not finished until every kind has been listed, not only the Services', () => {
  initialize('services');
  expect(agent.view.status().sources[0]).toMatchObject({ isInitialized: false });
  expect(agent.view.health()).toEqual({ ready: false, reasons: ['the first list of the source files /x is not finished'] });
  initialize('slices');
  expect(agent.view.status().sources[0]).toMatchObject({ isInitialized: true });
  // The source has finished its first list, so the reason is the desired state and not the source.
  expect(agent.view.health().reasons).toEqual([expect.stringMatching(/^the desired state is not computed yet/)]);
  initialize('desired', 'host');
  expect(agent.view.health().reasons).toEqual(['the first reconcile is not finished']);
  agent.start();
  expect(agent.view.health()).toEqual({ ready: true, reasons: [] });
});

test('a step that fails in any loop makes the agent degraded, with the error, until the step succeeds', () => {
  initialize('services', 'slices', 'desired', 'host');
  agent.failure = new KernelError({ op: 'map delete', object: 'lb4_ranges', errno: 5, code: 'EIO' });
  agent.start();
  expect(agent.view.status().reconcile).toMatchObject({
    error: 0,
    errors: [{ key: 'prune of host', message: 'map delete lb4_ranges: EIO', retries: 1 }],
  });
  expect(agent.severities()).toContain('Reconcile Degraded');
  agent.failure = undefined;
  agent.clock.advance(60_000);
  agent.scheduler.flush();
  expect(agent.view.status().reconcile.errors).toEqual([]);
  expect(agent.severities()).not.toContain('Reconcile Degraded');
});

test('socketLb is true only while socket programs are attached', () => {
  expect(agent.view.status().socketLb).toBe(false);
  agent.attachments = [{ program: 'sock_connect4', target: '/sys/fs/cgroup', kind: 'cgroup' }];
  expect(agent.view.status().socketLb).toBe(true);
});

test('each map is reported with the name of its type and the setting that determines its size', () => {
  expect(agent.view.status().maps).toEqual([
    { name: 'lb4_ranges', type: 'lpm_trie', capacity: 64, used: undefined, flag: 'max-frontends' },
    { name: 'ct4', type: 'lru_hash', capacity: 64, used: undefined, flag: undefined },
  ]);
});

test('the findings of the status are those of the parts, such as the device controller', () => {
  expect(agent.view.status().findings.devices).toEqual({ summary: '1 uplink', problems: ['missing'] });
});
