// SPDX-License-Identifier: Apache-2.0
// A kubeconfig's exec plugin, with plugins that run: what they are told, how long their answer counts, how they fail.
import { existsSync, readFileSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import type { ClusterAccess } from '../../../daemon/source/kubernetes/access.ts';
import { AccessWorld, base64, certificate, failureOf, key, otherKey, type Parts } from './access-fixture.ts';

const v1 = 'client.authentication.k8s.io/v1';

const credential = (status: object, apiVersion = v1): string => JSON.stringify({ apiVersion, kind: 'ExecCredential', status });

/** Prints a text, and notes each run in the file "runs". */
function writePlugin(world: AccessWorld, printed: string): void {
  world.write('printed', printed);
  world.writeScript('plugin', `echo run >> ${world.path('runs')}`, `cat ${world.path('printed')}`);
}

const runs = (world: AccessWorld): number =>
  existsSync(world.path('runs')) ? readFileSync(world.path('runs'), 'utf8').trim().split('\n').length : 0;

const accessBy = (world: AccessWorld, exec: object = {}, parts: Parts = {}): ClusterAccess =>
  world.access({ ...parts, user: { exec: { apiVersion: v1, command: './plugin', ...exec } } });

/** A new world whose plugin prints this, and the way it opens. */
function withPlugin(printed: string, exec: object = {}): { world: AccessWorld; access: ClusterAccess } {
  const world = new AccessWorld();
  writePlugin(world, printed);
  return { world, access: accessBy(world, exec) };
}

/** What another process brings about; it tells nobody. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await setImmediate();
}

describe('a plugin', () => {
  test('gives a token', async () => {
    const { access } = withPlugin(credential({ token: 'abc' }));
    expect([await access.tls(), await access.authorization()]).toEqual([{}, 'Bearer abc']);
  });

  test('gives a client certificate, in v1beta1 too', async () => {
    const apiVersion = 'client.authentication.k8s.io/v1beta1';
    const printed = credential({ clientCertificateData: certificate, clientKeyData: key, token: '' }, apiVersion);
    const { access } = withPlugin(printed, { apiVersion, interactiveMode: 'IfAvailable' });
    expect([await access.tls(), await access.authorization()]).toEqual([{ cert: certificate, key }, undefined]);
  });

  test('whose key is of another certificate', async () => {
    const { world, access } = withPlugin(credential({ clientCertificateData: certificate, clientKeyData: otherKey() }));
    expect(await failureOf(world, () => access.tls())).toBe(
      'CredentialError: the client key of user admin of config does not belong to its certificate',
    );
  });

  test('is found in PATH by its bare name, gets our environment, its own, its arguments and no input', async () => {
    const world = new AccessWorld();
    world.writeScript('plug', `echo "$OURS|$ITS|$1|$2|$(cat)" > ${world.path('got')}`, `cat ${world.path('printed')}`);
    world.write('printed', credential({ token: 'abc' }));
    const env = { PATH: `${world.folder}:${process.env['PATH']}`, OURS: 'ours', ITS: 'overruled' };
    const access = accessBy(world, { command: 'plug', args: ['get token', '$x'], env: [{ name: 'ITS', value: 'its' }] }, { env });
    expect(await access.authorization()).toBe('Bearer abc');
    expect(readFileSync(world.path('got'), 'utf8')).toBe('ours|its|get token|$x|\n');
  });

  test('is told of the cluster when it asks for it, and not otherwise', async () => {
    const world = new AccessWorld();
    world.writeScript('plugin', `printf %s "$KUBERNETES_EXEC_INFO" > ${world.path('info')}`, `cat ${world.path('printed')}`);
    world.write('printed', credential({ token: 'abc' }));
    world.write('ca.crt', certificate);
    const cluster = {
      'certificate-authority': 'ca.crt',
      'tls-server-name': 'kubernetes',
      extensions: [{ name: 'client.authentication.k8s.io/exec', extension: { audience: 'x' } }],
    };
    const info = (): unknown => JSON.parse(readFileSync(world.path('info'), 'utf8'));
    await accessBy(world, { env: [{ name: 'KUBERNETES_EXEC_INFO', value: 'its own' }] }, { cluster }).authorization();
    expect(info()).toEqual({ apiVersion: v1, kind: 'ExecCredential', spec: { interactive: false } });
    await accessBy(world, { provideClusterInfo: true }, { cluster }).authorization();
    expect(info()).toEqual({
      apiVersion: v1,
      kind: 'ExecCredential',
      spec: {
        interactive: false,
        cluster: {
          server: 'https://10.0.0.1:6443',
          'tls-server-name': 'kubernetes',
          'certificate-authority-data': base64(certificate),
          config: { audience: 'x' },
        },
      },
    });
  });
});

describe('an answer counts', () => {
  test('until it is about to expire', async () => {
    const { world, access } = withPlugin(credential({ token: 'a', expirationTimestamp: '2030-01-01T01:00:00+00:00' }));
    expect([await access.authorization(), await access.authorization(), runs(world)]).toEqual(['Bearer a', 'Bearer a', 1]);
    writePlugin(world, credential({ token: 'b', expirationTimestamp: '2030-01-01T02:00:00Z' }));
    world.clock.advance(3_589_000);
    expect(await access.authorization()).toBe('Bearer a');
    world.clock.advance(1000);
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer b', 2]);
  });

  test('for one request when it has expired already, by our clock', async () => {
    const { world, access } = withPlugin(credential({ token: 'a', expirationTimestamp: '2029-12-31T00:00:00Z' }));
    expect([await access.authorization(), await access.authorization(), runs(world)]).toEqual(['Bearer a', 'Bearer a', 2]);
  });

  test('until the server refuses it, when it does not expire', async () => {
    const { world, access } = withPlugin(credential({ token: 'a', expirationTimestamp: null }));
    await access.authorization();
    world.clock.advance(365 * 86_400_000);
    writePlugin(world, credential({ token: 'b' }));
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer a', 1]);
    access.forget('Bearer a');
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer b', 2]);
    // Somebody else's request, which left earlier.
    access.forget('Bearer a');
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer b', 2]);
  });

  test('never, when the daemon stops meanwhile: the plugin is killed', async () => {
    const world = new AccessWorld();
    world.writeScript('plugin', `echo run >> ${world.path('runs')}`, 'sleep 60');
    const access = accessBy(world);
    const failure = access.authorization().catch((error: unknown) => String(error));
    await until(() => runs(world) === 1);
    access.close();
    expect(await failure).toMatch(/exec plugin .* was ended with the daemon/);
  });

  test('for all who ask while it is made: one run', async () => {
    const { world, access } = withPlugin(credential({ token: 'a' }));
    const told = await Promise.all([access.authorization(), access.tls(), access.authorization()]);
    expect([told, runs(world)]).toEqual([['Bearer a', {}, 'Bearer a'], 1]);
  });

  test('not at all when the plugin failed: the next who asks runs it again', async () => {
    const { world, access } = withPlugin('nonsense');
    expect(await failureOf(world, () => access.authorization())).toMatch(/^CredentialError/);
    writePlugin(world, credential({ token: 'a' }));
    expect([await access.authorization(), runs(world)]).toEqual(['Bearer a', 2]);
  });
});

describe('a plugin that fails', () => {
  test.for([
    {
      name: 'with the last line of its stderr',
      lines: ['echo first >&2', 'echo "  no session:  log in " >&2', 'exit 3'],
      want: 'ended with exit code 3: no session: log in',
    },
    { name: 'silently, whatever it printed', lines: ['echo s3cret', 'exit 1'], want: 'ended with exit code 1' },
    { name: 'by a signal', lines: ['kill -TERM $$'], want: 'ended with SIGTERM' },
    { name: 'by printing without end', lines: ['yes s3cret'], want: 'printed more than 1048576 characters' },
  ])('$name', async ({ lines, want }) => {
    const world = new AccessWorld();
    world.writeScript('plugin', ...lines);
    expect(await failureOf(world, () => accessBy(world).authorization())).toBe(`CredentialError: the exec plugin plugin ${want}`);
  });

  test('by complaining without end is quoted in short', async () => {
    const world = new AccessWorld();
    world.writeScript('plugin', 'head -c 100000 /dev/zero | tr "\\0" x >&2', 'exit 1');
    const want = `CredentialError: the exec plugin plugin ended with exit code 1: ${'x'.repeat(300)}`;
    expect(await failureOf(world, () => accessBy(world).authorization())).toBe(want);
  });

  test('by not being there says how to get it', async () => {
    const world = new AccessWorld();
    const access = accessBy(world, { command: 'no-such-plugin', installHint: 'Get it:\n  apt-get install it\n' });
    expect(await failureOf(world, () => access.authorization())).toBe(
      'CredentialError: the exec plugin no-such-plugin is not found: Get it: apt-get install it',
    );
    expect(await failureOf(world, () => accessBy(world).tls())).toBe('CredentialError: the exec plugin plugin is not found');
  });

  test('by not being a program', async () => {
    const world = new AccessWorld();
    world.write('plugin', 'no program');
    expect(await failureOf(world, () => accessBy(world).authorization())).toBe(
      'CredentialError: the exec plugin plugin cannot be started: permission denied',
    );
    expect(await failureOf(world, () => accessBy(world, { args: ['a\0b'] }).authorization())).toMatch(
      /^CredentialError: the exec plugin plugin cannot be started: /,
    );
  });

  test('by not ending is killed, and what it started too', async () => {
    const world = new AccessWorld();
    // Its child holds stdout open after it.
    world.writeScript('plugin', 'tail -f /dev/null &', `echo $! > ${world.path('made')}`, `mv ${world.path('made')} ${world.path('pid')}`);
    const failed = failureOf(world, () => accessBy(world).authorization());
    await until(() => existsSync(world.path('pid')));
    world.clock.advance(59_999);
    expect(world.clock.nextTimer).toBe(60_000);
    world.clock.advance(1);
    expect(await failed).toBe('CredentialError: the exec plugin plugin did not end within 60 s');
    const stat = `/proc/${readFileSync(world.path('pid'), 'utf8').trim()}/stat`;
    // Dead, perhaps not buried.
    await until(() => !existsSync(stat) || / Z /.test(readFileSync(stat, 'utf8')));
  });

  test('leaves no timer when it ends in time', async () => {
    const { world, access } = withPlugin(credential({ token: 'a' }));
    await access.authorization();
    expect(world.clock.nextTimer).toBeUndefined();
  });
});

describe('what is printed must be a credential, and is not quoted', () => {
  const pair = { clientCertificateData: certificate, clientKeyData: key };
  const other = 'client.authentication.k8s.io/v1beta1';
  test.for([
    { name: 'nothing', printed: '', want: 'it must be a JSON object' },
    { name: 'a word', printed: '"s3cret"', want: 'it must be a JSON object' },
    {
      name: 'of another version',
      printed: credential({ token: 's3cret' }, other),
      want: `apiVersion must be ${v1}, as the kubeconfig says, is "${other}"`,
    },
    { name: 'of another kind', printed: JSON.stringify({ apiVersion: v1, kind: 'Pod' }), want: 'kind must be ExecCredential, is "Pod"' },
    { name: 'no status', printed: JSON.stringify({ apiVersion: v1, kind: 'ExecCredential' }), want: 'status must be an object' },
    { name: 'an empty status', printed: credential({}), want: 'status holds neither token nor clientCertificateData' },
    {
      name: 'a token that would be two headers',
      printed: credential({ token: 's3cret\nX: 1' }),
      want: 'status.token must be one word of ASCII characters',
    },
    { name: 'a number', printed: credential({ token: 5 }), want: 'status.token must be one word of ASCII characters' },
    {
      name: 'a certificate without key',
      printed: credential({ clientCertificateData: certificate }),
      want: 'status must hold clientCertificateData and clientKeyData together',
    },
    {
      name: 'no certificate',
      printed: credential({ ...pair, clientCertificateData: 's3cret' }),
      want: 'status.clientCertificateData must be a PEM certificate',
    },
    { name: 'no key', printed: credential({ ...pair, clientKeyData: 's3cret' }), want: 'status.clientKeyData must be a PEM private key' },
    {
      name: 'an end that is no time',
      printed: credential({ token: 'a', expirationTimestamp: 'soon' }),
      want: 'status.expirationTimestamp must be a time such as 2030-01-01T00:00:00Z',
    },
  ])('$name', async ({ printed, want }) => {
    const { world, access } = withPlugin(printed);
    expect(await failureOf(world, () => access.authorization())).toBe(
      `CredentialError: the exec plugin plugin printed no ExecCredential: ${want}`,
    );
  });
});
