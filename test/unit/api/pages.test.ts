// SPDX-License-Identifier: Apache-2.0
// The pages of ListServices and ListBackends, with a client that has gRPC's default limit for received messages.
import { credentials, type ServiceError, status as code } from '@grpc/grpc-js';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { GrpcServer } from '../../../daemon/api/grpc.ts';
import { pageBytes } from '../../../daemon/api/limits.ts';
import { serviceMessage, statusMessage } from '../../../daemon/api/messages.ts';
import type { BackendView, ServiceView } from '../../../daemon/status/view.ts';
import type { ListBackendsResponse__Output as BackendPage } from '../../../proto/gen/sluice/v1/ListBackendsResponse.ts';
import type { ListServicesResponse__Output as ServicePage } from '../../../proto/gen/sluice/v1/ListServicesResponse.ts';
import { loadSluice } from '../../../proto/load.ts';
import { FakeView, handover, services, troubledStatus } from './fixture.ts';

/** gRPC's default limit for received messages. */
const defaultLimit = 4 * 1024 * 1024;
const { Sluice } = loadSluice();

class LargeView extends FakeView {
  backendRows: readonly BackendView[] = [];
  /** Number of lists that were computed. */
  lists = 0;

  override services(): Iterable<ServiceView> {
    this.lists += 1;
    return super.services();
  }

  override backends(): readonly BackendView[] {
    this.lists += 1;
    return this.backendRows;
  }
}

let directory: string;
let view: LargeView;
let server: GrpcServer;
let client: InstanceType<typeof Sluice>;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-pages-'));
  const socketPath = join(directory, 's.sock');
  view = new LargeView();
  server = new GrpcServer({ view, reload: () => ({ hooks: 0, milliseconds: 0 }), handover, socketPath });
  await server.start();
  client = new Sluice(`unix:${socketPath}`, credentials.createInsecure());
});

afterEach(async () => {
  client.close();
  await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

interface Request {
  readonly pageSize?: number;
  readonly pageToken?: string;
}

const servicePage = (request: Request): Promise<ServicePage> =>
  new Promise((resolve, reject) => {
    client.listServices(request, (error, page) => (page === undefined ? reject(error ?? new Error('no page')) : resolve(page)));
  });

const backendPage = (request: Request): Promise<BackendPage> =>
  new Promise((resolve, reject) => {
    client.listBackends(request, (error, page) => (page === undefined ? reject(error ?? new Error('no page')) : resolve(page)));
  });

async function pages<Page extends { readonly nextPageToken: string }>(
  get: (request: Request) => Promise<Page>,
  pageSize = 0,
): Promise<Page[]> {
  const all = [await get({ pageSize })];
  for (let last = all[0]; last !== undefined && last.nextPageToken !== ''; last = all.at(-1)) {
    all.push(await get({ pageSize, pageToken: last.nextPageToken }));
  }
  return all;
}

/** The test uses IPv6 addresses, because they are the longest. */
const address = (n: number): string => `fd00:10:244:1000:2000:3000:${(n >> 16).toString(16)}:${(n & 0xffff).toString(16)}`;

function serviceOf(n: number, endpoints: number): ServiceView {
  const [, , web] = services as [ServiceView, ServiceView, ServiceView];
  const name = `a-service-with-a-rather-long-name-${String(n).padStart(6, '0')}`;
  const at = Array.from({ length: endpoints }, (_, i) => ({ address: address(n * endpoints + i), port: 8080 }));
  return {
    ...{ ...web, id: n, name, key: `default/${name}:http/TCP/IPv6` },
    backends: at.map((each) => ({ ...each, use: 'active', isLocal: false, isUsable: true, isLocallyUsable: true }) as const),
    run: at.map((each, i) => ({ ...each, id: n * endpoints + i, slots: 2 })),
  };
}

function backendOf(id: number): BackendView {
  const family = id % 2 === 0 ? 'IPv4' : 'IPv6';
  const service = `default/a-service-with-a-rather-long-name-${String(id >> 5).padStart(6, '0')}:http/TCP/IPv6`;
  return {
    ...{ id, family, address: address(id), port: 8080, generation: 1, service, isWanted: true },
    ...{ frontends: [`[${address(id)}]:80/TCP`], flags: ['usable', 'local', 'serving', 'present'] },
  };
}

describe('with the default message limit of a client', () => {
  test('5,000 Services with 20 endpoints each are all listed once, and all pages come from one list', async () => {
    const rows = Array.from({ length: 5000 }, (_, n) => serviceOf(n, 20));
    view.rows = rows;
    const all = await pages(servicePage);
    expect(all.length).toBeGreaterThan(5);
    for (const page of all) expect(Sluice.service.ListServices.responseSerialize(page).length).toBeLessThan(pageBytes + 1000);
    expect(all.flatMap((page) => page.services.map(({ key }) => key))).toEqual(rows.map(({ key }) => key));
    expect(all.flatMap((page) => page.services.flatMap(({ run }) => run))).toHaveLength(100_000);
    expect(view.lists).toBe(1);
  });

  test('100,000 backends are listed completely, each once', async () => {
    const ids = Array.from({ length: 100_000 }, (_, id) => id);
    view.backendRows = ids.map(backendOf).toSorted((a, b) => (a.family === b.family ? a.id - b.id : a.family < b.family ? -1 : 1));
    const all = await pages(backendPage);
    expect(all.flatMap(({ backends }) => backends.map(({ id }) => id))).toEqual(view.backendRows.map(({ id }) => id));
  });

  test('a single Service of extreme size, and a status of extreme size, each fit into one message', () => {
    const [frontend] = serviceOf(1, 1).frontends as [ServiceView['frontends'][number]];
    const extreme = {
      ...serviceOf(1, 20_000),
      frontends: Array<typeof frontend>(100_000).fill(frontend),
      differences: Array<string>(101).fill(`kernel lacks [${address(1)}]:8080 for [${address(1)}]:80/TCP`),
    };
    const message = serviceMessage(extreme);
    expect(Sluice.service.ListServices.responseSerialize({ services: [message] }).length).toBeLessThan(pageBytes);
    expect(message).toMatchObject({ moreFrontends: 99_500, moreBackends: 15_000, moreRun: 15_000 });
    const [source] = troubledStatus.sources as [(typeof troubledStatus.sources)[number]];
    const [problem] = source.problems as [(typeof source.problems)[number]];
    const long = { ...problem, message: 'x'.repeat(100_000), object: 'y'.repeat(100_000) };
    const conflict = {
      frontend: '10.96.0.10:80/TCP',
      owner: 'default/web:http/TCP/IPv4',
      contenders: Array<string>(1000).fill('default/late:http/TCP/IPv4'),
    };
    const status = statusMessage({
      ...troubledStatus,
      sources: [{ ...source, problems: Array<typeof long>(10_000).fill(long) }],
      conflicts: Array<typeof conflict>(1000).fill(conflict),
    });
    expect(Sluice.service.Status.responseSerialize(status).length).toBeLessThan(defaultLimit);
    const { problems = [], moreProblems = 0 } = status.sources?.[0] ?? {};
    expect([problems.length > 200, problems.length + moreProblems]).toEqual([true, 10_000]);
    expect([status.conflicts?.[0]?.moreContenders, status.moreConflicts]).toEqual([980, 500]);
  });
});

describe('page_size and page_token', () => {
  test.for([
    { pageSize: 1, sizes: [1, 1, 1] },
    { pageSize: 2, sizes: [2, 1] },
    { pageSize: 3, sizes: [3] },
    { pageSize: 0, sizes: [3] },
    { pageSize: 4_294_967_295, sizes: [3] },
  ])('page_size $pageSize gives pages of $sizes', async ({ pageSize, sizes }) => {
    expect((await pages(servicePage, pageSize)).map((page) => page.services.length)).toEqual(sizes);
  });

  test('a page_size above the maximum is reduced to the maximum', async () => {
    view.rows = Array.from({ length: 2500 }, (_, n) => serviceOf(n, 0));
    expect((await pages(servicePage, 4000)).map((page) => page.services.length)).toEqual([1000, 1000, 500]);
  });

  test('an empty list is returned as one empty page', async () => {
    view.rows = [];
    expect(await servicePage({})).toEqual({ services: [], nextPageToken: '' });
  });

  test.for(['x', '%%%', Buffer.from('default/web').toString('base64url')])(
    'the token "%s" is rejected with an error that names the field',
    async (pageToken) => {
      const error = (await servicePage({ pageToken }).catch((reason: unknown) => reason)) as ServiceError;
      expect([error.code, error.details]).toEqual([
        code.INVALID_ARGUMENT,
        'page_token is not a next_page_token of this agent: leave it empty for the first page',
      ]);
    },
  );

  test('rows that always exist are listed once while other rows are added and deleted, even with tokens of an earlier agent', async () => {
    const row = (n: number): ServiceView => serviceOf(n, 0);
    const stay = Array.from({ length: 20 }, (_, n) => row(n * 10));
    view.rows = stay;
    const first = await servicePage({ pageSize: 7 });
    // The first server has kept the list of the token in memory. The second server does not have this list.
    await server.stop();
    const socketPath = join(directory, 'second.sock');
    server = new GrpcServer({ view, reload: () => ({ hooks: 0, milliseconds: 0 }), handover, socketPath });
    await server.start();
    client.close();
    client = new Sluice(`unix:${socketPath}`, credentials.createInsecure());
    view.rows = [row(1), ...stay.slice(0, 7), row(65), ...stay.slice(7)];
    const second = await servicePage({ pageSize: 1000, pageToken: first.nextPageToken });
    const keys = [...first.services, ...second.services].map(({ key }) => key);
    expect(keys).toEqual([...stay.slice(0, 7), row(65), ...stay.slice(7)].map(({ key }) => key));
    expect(second.nextPageToken).toBe('');
  });
});
