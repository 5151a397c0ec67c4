// SPDX-License-Identifier: Apache-2.0
// The follower of a kernel list. The list and the monitor of these tests fail in the ways in which the kernel may fail. After the
// start, the follower must not throw. It reports each failure and retries with growing delays.
import { describe, expect, test } from 'vitest';
import { KernelError } from '../../../daemon/base/errors.ts';
import { Follower } from '../../../daemon/source/netlink/follower.ts';
import { FakeClock } from '../../support/fake-clock.ts';

const failure = (code: string): KernelError => new KernelError({ op: 'netlink', object: 'links', errno: 1, code });

class World {
  readonly clock = new FakeClock();
  readonly calls: string[] = [];
  readonly log: string[] = [];
  listError: Error | undefined;
  openError: Error | undefined;
  lose: (reason: KernelError) => void = () => undefined;
  readonly follower = new Follower({
    ...{ what: 'network devices', clock: this.clock },
    log: { error: (_: unknown, text = '') => void this.log.push(text), info: (_: unknown, text = '') => void this.log.push(text) } as never,
    open: (onLost) => {
      this.calls.push('open');
      if (this.openError !== undefined) throw this.openError;
      this.lose = onLost;
      return { close: () => void this.calls.push('close') };
    },
    list: () => {
      this.calls.push('list');
      if (this.listError !== undefined) throw this.listError;
    },
  });

  taken(): string[] {
    return this.calls.splice(0);
  }
}

test('the follower opens the monitor before it lists', () => {
  const world = new World();
  world.follower.start();
  expect(world.taken()).toEqual(['open', 'list']);
});

describe('a start that fails', () => {
  test.for(['openError', 'listError'] as const)('a start that fails with %s throws and leaves no monitor and no timer', (which) => {
    const world = new World();
    world[which] = failure('EMFILE');
    expect(() => world.follower.start()).toThrow('EMFILE');
    expect(world.taken()).toEqual(which === 'openError' ? ['open'] : ['open', 'list', 'close']);
    expect(world.clock.nextTimer).toBeUndefined();
  });
});

describe('a failure after the start', () => {
  test.for(['EMFILE', 'ENOMEM', 'ENOBUFS', 'EIO', 'EINTR', 'EAGAIN'])(
    'a failure after the start with %s is reported, and the operation is retried with growing delays',
    (code) => {
      const world = new World();
      world.follower.start();
      world.taken();
      world.listError = failure(code);
      world.follower.resync();
      expect(world.follower.problems()).toEqual([
        `the network devices of this node cannot be read, will be retried: netlink links: ${code}`,
      ]);
      const waits: number[] = [];
      for (let round = 0; round < 9; round += 1) {
        waits.push((world.clock.nextTimer ?? 0) - world.clock.now());
        world.clock.advance(waits.at(-1) ?? 0);
      }
      expect(waits).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
      expect(world.log).toEqual(['the network devices of this node cannot be read, will be retried']);
      world.listError = undefined;
      world.clock.advance(10_000);
      expect([world.follower.problems(), world.clock.nextTimer]).toEqual([[], undefined]);
    },
  );

  test('an error that is not a KernelError is handled in the same way', () => {
    const world = new World();
    world.follower.start();
    world.listError = new Error('Failed to start UV poll');
    world.follower.resync();
    expect(world.follower.problems()).toHaveLength(1);
  });

  test('a monitor that cannot be opened again is retried', () => {
    const world = new World();
    world.follower.start();
    world.taken();
    world.openError = failure('EMFILE');
    world.lose(failure('ENOBUFS'));
    world.clock.advance(100);
    expect(world.taken()).toEqual(['close', 'open']);
    expect(world.follower.problems()).toHaveLength(1);
    world.openError = undefined;
    world.clock.advance(200);
    expect([world.taken(), world.follower.problems()]).toEqual([['open', 'list'], []]);
  });
});

test('lost events lead to a new monitor and a new list, at most ten times per second', () => {
  const world = new World();
  world.follower.start();
  world.taken();
  for (let round = 0; round < 5; round += 1) {
    world.lose(failure('ENOBUFS'));
    expect(world.taken()).toEqual(['close']);
    world.clock.advance(99);
    expect(world.taken()).toEqual([]);
    world.clock.advance(1);
    expect(world.taken()).toEqual(['open', 'list']);
  }
});

test('after stop() nothing is opened, listed or retried', () => {
  const world = new World();
  world.follower.start();
  world.listError = failure('EIO');
  world.follower.resync();
  world.follower.stop();
  world.taken();
  world.follower.resync();
  world.clock.advance(60_000);
  expect(world.taken()).toEqual([]);
});
