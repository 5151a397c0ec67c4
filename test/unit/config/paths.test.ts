// SPDX-License-Identifier: Apache-2.0
// The directory that a relative path in a setting is relative to. The tests cover each setting that is a path, and each source of
// settings: flags, environment variables and the settings file.
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../../daemon/config/resolve.ts';

interface Given {
  readonly argv?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
  /** Text of the file /etc/s.yaml. */
  readonly file?: string;
}

describe('relative paths', () => {
  const paths = ['source', 'kubeconfig', 'cgroup', 'pin-path', 'socket'] as const;
  const resolved = ({ argv = [], env = {}, file }: Given): Record<string, string | undefined> => {
    const config = parseConfig(['--config', '/etc/s.yaml', '--node', 'n1', ...argv], env, () => file ?? '');
    const { source, kubeconfig, cgroup, pinPath, socket } = config;
    return { source, kubeconfig, cgroup, 'pin-path': pinPath, socket };
  };

  test.for(paths)('a relative path in --%s is relative to the current directory', (name) => {
    expect(resolved({ argv: [`--${name}`, './a/../b/'] })[name]).toBe(`${process.cwd()}/b`);
  });

  test.for(paths)('a relative path in the environment variable of %s is relative to the current directory', (name) => {
    const env = { [`SLUICE_${name.replace('-', '_').toUpperCase()}`]: 'b' };
    expect(resolved({ env })[name]).toBe(`${process.cwd()}/b`);
  });

  test.for(paths)('a relative path of %s in a settings file is relative to the directory of the file', (name) => {
    expect(resolved({ file: `${name}: ../b` })[name]).toBe('/b');
  });

  test('in an npm script of this package, a relative path is relative to the directory in which the user called npm', () => {
    const env = { INIT_CWD: '/home/user', npm_package_name: 'sluice', npm_lifecycle_event: 'sluiced' };
    expect(resolved({ argv: ['--source', 'x'], env })['source']).toBe('/home/user/x');
    expect(resolved({ env: { ...env, SLUICE_PIN_PATH: 'x' } })['pin-path']).toBe('/home/user/x');
  });

  test.for([
    { name: 'a script of another package', package_: 'other', event: 'sluiced' },
    {
      name: 'another script of this package, because it chooses the current directory itself',
      package_: 'sluice',
      event: 'test',
    },
  ])('INIT_CWD is ignored in $name', ({ event, package_ }) => {
    expect(
      resolved({ argv: ['--source', 'x'], env: { INIT_CWD: '/home/user', npm_package_name: package_, npm_lifecycle_event: event } })[
        'source'
      ],
    ).toBe(`${process.cwd()}/x`);
  });

  test('--config and SLUICE_CONFIG are relative to the current directory', () => {
    const read: string[] = [];
    const readFile = (path: string): string => (read.push(path), 'source: x');
    expect(parseConfig(['--config', 'c/s.yaml'], {}, readFile).source).toBe(`${process.cwd()}/c/x`);
    parseConfig([], { SLUICE_CONFIG: './s.yaml' }, readFile);
    expect(read).toEqual([`${process.cwd()}/c/s.yaml`, `${process.cwd()}/s.yaml`]);
  });

  test('absolute paths are not changed', () => {
    expect(resolved({ argv: ['--source', '/a/../b'] })['source']).toBe('/a/../b');
  });
});
