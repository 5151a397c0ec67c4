// SPDX-License-Identifier: Apache-2.0
// Access to the API server: by a kubeconfig, or by the service account of a pod. Without both, the start fails.
import { mkdirSync, rmSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ExitCode, ExitError } from '../../../daemon/base/errors.ts';
import { findAccess } from '../../../daemon/source/kubernetes/find-access.ts';
import { inClusterAccess } from '../../../daemon/source/kubernetes/in-cluster.ts';
import { AccessWorld, base64, certificate, failureOf, key, otherKey } from './access-fixture.ts';

const hrefs = (servers: readonly URL[]): string[] => servers.map(({ href }) => href);

describe('a kubeconfig', () => {
  test('a kubeconfig gives the server and the credentials', async () => {
    const world = new AccessWorld();
    const access = world.access({ user: { token: 'abc' } });
    expect(hrefs(access.servers)).toEqual(['https://10.0.0.1:6443/']);
    expect(access.description).toBe(`user admin of ${world.path('config')}`);
    expect(await access.authorization()).toBe('Bearer abc');
    expect(await access.tls()).toEqual({});
  });

  test('configured servers override the server of a kubeconfig', () => {
    const servers = [new URL('https://10.0.0.7:6443'), new URL('https://10.0.0.8:6443')];
    expect(new AccessWorld().access({ servers }).servers).toEqual(servers);
    expect(new AccessWorld().access({ servers, cluster: { server: '' } }).servers).toEqual(servers);
  });

  test('only the entries of the current context are used, and of entries with the same name, the first one', async () => {
    const text = `
apiVersion: v1
kind: Config
preferences: {}
current-context: b
contexts:
- {name: a, context: {cluster: a, user: a}}
- {name: b, context: {cluster: b, user: b, namespace: web}}
clusters:
- {name: a, cluster: {server: not-an-address}}
- {name: b, cluster: {server: "https://[fd00::1]:6443", disable-compression: true}}
- {name: b, cluster: {server: "https://second"}}
users:
- {name: a, user: {username: root}}
- {name: b, user: {token: of-b}}
`;
    const access = new AccessWorld().accessOf(text);
    expect(hrefs(access.servers)).toEqual(['https://[fd00::1]:6443/']);
    expect(await access.authorization()).toBe('Bearer of-b');
  });

  test('a kubeconfig may contain certificates and a key as data', async () => {
    const user = { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) };
    const cluster = { 'certificate-authority-data': base64(certificate), 'tls-server-name': 'kubernetes' };
    const access = new AccessWorld().access({ cluster, user });
    expect(await access.tls()).toEqual({ ca: certificate, cert: certificate, key, servername: 'kubernetes' });
    expect(await access.authorization()).toBeUndefined();
  });

  test('a kubeconfig may name files, relative to its folder or absolute, which are read for each use', async () => {
    const world = new AccessWorld();
    mkdirSync(world.path('pki'));
    const user = { 'client-certificate': 'pki/client.crt', 'client-key': world.path('pki/client.key'), tokenFile: './token' };
    const access = world.access({ cluster: { 'certificate-authority': 'pki/ca.crt' }, user });
    expect(await failureOf(world, () => access.tls())).toBe('CredentialError: cannot read pki/client.crt: no such file or directory');

    world.write('pki/client.crt', certificate);
    world.write('pki/client.key', otherKey());
    world.write('pki/ca.crt', 'not yet');
    expect(await failureOf(world, () => access.tls())).toBe(
      'CredentialError: the client key of user admin of config does not match its certificate',
    );
    world.write('pki/client.key', key);
    expect(await failureOf(world, () => access.tls())).toBe('CredentialError: pki/ca.crt contains no PEM certificate');
    world.write('pki/ca.crt', certificate);
    expect(await access.tls()).toEqual({ ca: certificate, cert: certificate, key });

    world.write('token', 'first\n');
    expect(await access.authorization()).toBe('Bearer first');
    world.write('token', 'second');
    expect(await access.authorization()).toBe('Bearer second');
    world.write('token', ' \n');
    expect(await failureOf(world, () => access.authorization())).toBe(
      'CredentialError: token contains no token: a token is one word of ASCII characters',
    );
  });

  test('data takes precedence over a file if both are given, but tokenFile takes precedence over token', async () => {
    const world = new AccessWorld();
    world.write('token', 'of-the-file');
    const user = { token: 'of-the-field', tokenFile: 'token' };
    const cluster = { 'certificate-authority': 'missing', 'certificate-authority-data': base64(certificate) };
    const access = world.access({ cluster, user });
    expect(await access.tls()).toEqual({ ca: certificate });
    expect(await access.authorization()).toBe('Bearer of-the-file');
  });

  test('a kubeconfig can disable the verification of certificates', async () => {
    expect(await new AccessWorld().access({ cluster: { 'insecure-skip-tls-verify': true } }).tls()).toEqual({ rejectUnauthorized: false });
  });

  test('the error of an invalid client certificate names the user and the kubeconfig', async () => {
    const world = new AccessWorld();
    world.write('client.crt', 'damaged');
    world.write('client.key', key);
    const access = world.access({ user: { 'client-certificate': 'client.crt', 'client-key': 'client.key' } });
    expect(await failureOf(world, () => access.tls())).toMatch(
      /^CredentialError: the client certificate or key of user admin of config cannot be used: /,
    );
  });
});

describe('an invalid kubeconfig prevents the start with an error that names the field', () => {
  const context = 'contexts: [{name: x, context: {cluster: c, user: u}}]';
  test.for([
    { name: 'an empty file', text: '', want: 'must be an object' },
    { name: 'a list', text: '- a\n', want: 'must be an object' },
    { name: 'invalid YAML, which is not quoted', text: 'users:\n  token: "s3cret\n', want: /^line 3: not valid YAML: (?!.*s3cret)/ },
    { name: 'no current context', text: 'current-context: ""\n', want: 'current-context: must be a name, is ""' },
    {
      name: 'a current context that does not exist',
      text: 'current-context: x\n',
      want: 'current-context: names the context "x", which this file does not define',
    },
    { name: 'contexts that are not a list', text: 'current-context: x\ncontexts: {x: {}}\n', want: 'contexts: must be a list' },
    {
      name: 'an entry without name',
      text: 'current-context: x\nusers: [{user: {}}]\n',
      want: 'users[0].name: must be a string, is missing',
    },
    {
      name: 'a context without user',
      text: 'current-context: x\ncontexts: [{name: y}, {name: x, context: {cluster: c}}]\n',
      want: 'contexts[1].context.user: must be a name, is missing',
    },
    { name: 'an empty context', text: 'current-context: x\ncontexts: [{name: x}]\n', want: 'contexts[0].context: must be an object' },
    {
      name: 'a cluster that does not exist',
      text: `current-context: x\n${context}\n`,
      want: 'contexts[0].context.cluster: names the cluster "c", which this file does not define',
    },
    {
      name: 'a user that does not exist',
      text: `current-context: x\n${context}\nclusters: [{name: c, cluster: {}}]\n`,
      want: 'contexts[0].context.user: names the user "u", which this file does not define',
    },
  ])('an invalid kubeconfig prevents the start: $name', async ({ text, want }) => {
    const world = new AccessWorld();
    const failure = await failureOf(world, () => world.accessOf(text));
    expect(failure).toMatch(/^ExitError: config: /);
    const rest = failure.slice('ExitError: config: '.length);
    if (typeof want === 'string') expect(rest).toBe(want);
    else expect(rest).toMatch(want);
  });

  const noUrl = (value: string): string => `server: must be a URL such as https://10.0.0.1:6443, is ${value}`;
  test.for([
    [{ server: '' }, 'server: must be a URL such as https://10.0.0.1:6443, is missing'],
    [{ server: 'http://10.0.0.1:8080' }, noUrl('"http://10.0.0.1:8080"')],
    [{ server: '10.0.0.1:6443' }, noUrl('"10.0.0.1:6443"')],
    [{ server: 'https://me:word@10.0.0.1' }, 'server: must be a URL such as https://10.0.0.1:6443, without a user'],
    [{ server: 'https://proxy/k8s?cluster=1' }, noUrl('"https://proxy/k8s?cluster=1"')],
    [{ server: 6443 }, 'server: must be a string, is 6443'],
    [{ 'proxy-url': 'http://proxy:3128' }, 'proxy-url: is not supported: sluiced connects to the API server directly'],
    [{ 'insecure-skip-tls-verify': 'yes' }, 'insecure-skip-tls-verify: must be true or false, is "yes"'],
    [{ 'certificate-authority-data': 'AAAA' }, 'certificate-authority-data: must be a PEM certificate in base64'],
    [
      { 'insecure-skip-tls-verify': true, 'certificate-authority': 'ca.crt' },
      'insecure-skip-tls-verify: must not be true together with certificate-authority',
    ],
  ] as const)('the cluster %j is rejected with an error that names the field', async ([cluster, want]) => {
    const world = new AccessWorld();
    expect(await failureOf(world, () => world.access({ cluster }))).toBe(`ExitError: config: clusters[0].cluster.${want}`);
  });

  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'true' };
  const impersonation = 'is not supported: sluiced does not impersonate another user';
  const noPassword = 'is not supported: API servers accept no passwords since Kubernetes 1.19, use a token or a client certificate';
  test.for([
    [{ as: 'other' }, `as: ${impersonation}`],
    [{ 'as-uid': '1' }, `as-uid: ${impersonation}`],
    [{ 'as-groups': ['system:masters'] }, `as-groups: ${impersonation}`],
    [{ 'as-user-extra': { a: ['b'] } }, `as-user-extra: ${impersonation}`],
    [{ username: 'root' }, `username: ${noPassword}`],
    [{ password: 's3cret' }, `password: ${noPassword}`],
    [{ 'auth-provider': { name: 'gcp' } }, 'auth-provider: is not supported: kubectl removed it in version 1.26, use exec'],
    [{ token: 12345 }, 'token: must be a string'],
    [{ token: 's3cret word' }, 'token: must be one word of ASCII characters'],
    [{ 'client-certificate': 'client.crt' }, 'client-key: is required together with client-certificate'],
    [{ 'client-key': 'client.key' }, 'client-certificate: is required together with client-key'],
    [{ 'client-key-data': base64('s3cret') }, 'client-key-data: must be a PEM private key in base64'],
    [{ exec, token: 's3cret' }, 'exec: cannot be combined with token, tokenFile or client-certificate: remove either exec or the others'],
    [{ exec: { ...exec, command: '' } }, 'exec.command: must be a command, is ""'],
    [
      { exec: { ...exec, apiVersion: 'client.authentication.k8s.io/v1alpha1' } },
      'exec.apiVersion: must be client.authentication.k8s.io/v1 or client.authentication.k8s.io/v1beta1, is "client.authentication.k8s.io/v1alpha1"',
    ],
    [
      { exec: { ...exec, interactiveMode: 'Always' } },
      'exec.interactiveMode: must be Never or IfAvailable, is Always: sluiced has no terminal',
    ],
    [{ exec: { ...exec, interactiveMode: 'never' } }, 'exec.interactiveMode: must be Never or IfAvailable, is "never"'],
    [{ exec: { ...exec, args: '--token s3cret' } }, 'exec.args: must be a list'],
    [{ exec: { ...exec, env: [{ name: 'A', value: 1 }] } }, 'exec.env[0].value: must be a string'],
  ] as const)('the user %j is rejected with an error that names the field', async ([user, want]) => {
    const world = new AccessWorld();
    expect(await failureOf(world, () => world.access({ user }))).toBe(`ExitError: config: users[0].user.${want}`);
  });

  test('an empty field is treated as absent', async () => {
    const cluster = { 'proxy-url': '', 'certificate-authority': '', 'tls-server-name': null, extensions: null };
    const user = { as: '', 'as-groups': [], 'as-user-extra': {}, username: null, token: '', tokenFile: '', exec: null };
    const access = new AccessWorld().access({ cluster, user });
    expect([await access.tls(), await access.authorization()]).toEqual([{}, undefined]);
  });

  test('a kubeconfig that cannot be read is reported with its path', async () => {
    const world = new AccessWorld();
    const find = (): unknown => findAccess({ kubeconfig: world.path('nowhere'), apiServers: [], env: {}, clock: world.clock });
    expect(await failureOf(world, find)).toBe('ExitError: cannot read the --kubeconfig file nowhere: no such file or directory');
    expect(find).toThrow(expect.objectContaining({ exitCode: ExitCode.config }));
  });
});

describe('a pod', () => {
  test('a pod uses the token and the CA that the kubelet wrote last', async () => {
    const world = new AccessWorld();
    const access = inClusterAccess({
      directory: world.folder,
      env: { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '6443' },
    });
    expect(hrefs(access.servers)).toEqual(['https://10.96.0.1:6443/']);
    expect(access.description).toBe(`the service account in ${world.folder}`);
    expect(await failureOf(world, () => access.authorization())).toBe('CredentialError: cannot read token: no such file or directory');
    expect(await failureOf(world, () => access.tls())).toBe('CredentialError: cannot read ca.crt: no such file or directory');

    world.write('ca.crt', certificate);
    world.write('token', 'first');
    expect([await access.tls(), await access.authorization()]).toEqual([{ ca: certificate }, 'Bearer first']);
    world.write('token', 'second\n');
    expect(await access.authorization()).toBe('Bearer second');
    access.invalidate('Bearer second');
    rmSync(world.path('token'));
    expect(await failureOf(world, () => access.authorization())).toBe('CredentialError: cannot read token: no such file or directory');
  });

  test.for([
    [{ KUBERNETES_SERVICE_HOST: 'fd00:96::1', KUBERNETES_SERVICE_PORT: '443' }, 'https://[fd00:96::1]/'],
    [{ KUBERNETES_SERVICE_HOST: '[fd00:96::1]', KUBERNETES_SERVICE_PORT: '6443' }, 'https://[fd00:96::1]:6443/'],
    [{ KUBERNETES_SERVICE_HOST: 'api.example', KUBERNETES_SERVICE_PORT: '' }, 'https://api.example/'],
  ] as const)('a pod finds the server in the environment %j', ([env, want]) => {
    expect(hrefs(inClusterAccess({ directory: '/', env }).servers)).toEqual([want]);
  });

  test.for([
    [{}, ExitCode.usage, 'KUBERNETES_SERVICE_HOST is not set: set --api-server URL'],
    [
      { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: 'tcp://10.96.0.1:443' },
      ExitCode.config,
      'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not form a valid address: https://10.96.0.1:tcp://10.96.0.1:443',
    ],
    [
      { KUBERNETES_SERVICE_HOST: 'a/b', KUBERNETES_SERVICE_PORT: '1' },
      ExitCode.config,
      'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT do not form a valid address: https://a/b:1',
    ],
  ] as const)('a pod refuses the environment %j', ([env, exitCode, message]) => {
    expect(() => inClusterAccess({ directory: '/', env })).toThrow(new ExitError(exitCode, message));
    expect(() => inClusterAccess({ directory: '/', env })).toThrow(expect.objectContaining({ exitCode }));
  });
});

describe('the access', () => {
  const inPod = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };

  test('the access comes from a configured kubeconfig, even in a pod', () => {
    const world = new AccessWorld();
    world.access();
    const { access, dependsOnClusterIP } = findAccess({ kubeconfig: world.path('config'), apiServers: [], env: inPod, clock: world.clock });
    expect([hrefs(access.servers), dependsOnClusterIP]).toEqual([['https://10.0.0.1:6443/'], false]);
  });

  test('the access comes from the service account if its folder exists or KUBERNETES_SERVICE_HOST is set', () => {
    const { folder, clock } = new AccessWorld();
    const apiServers = [new URL('https://10.0.0.1:6443')];
    const mounted = findAccess({ apiServers, env: {}, clock, serviceAccount: folder });
    expect([mounted.access.servers, mounted.dependsOnClusterIP]).toEqual([apiServers, false]);
    const named = findAccess({ apiServers: [], env: inPod, clock, serviceAccount: `${folder}/nowhere` });
    expect([hrefs(named.access.servers), named.dependsOnClusterIP]).toEqual([['https://10.96.0.1/'], true]);
  });

  test('the error names the options if there is neither a kubeconfig nor a service account', () => {
    const { folder, clock } = new AccessWorld();
    const find = (): unknown => findAccess({ apiServers: [], env: {}, clock, serviceAccount: `${folder}/nowhere` });
    const message = 'no source of Services is configured: set --source DIR or --kubeconfig FILE, or run in a pod';
    expect(find).toThrow(expect.objectContaining({ message, exitCode: ExitCode.usage }));
  });
});
