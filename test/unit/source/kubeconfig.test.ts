// SPDX-License-Identifier: Apache-2.0
// How the daemon finds the API server and what it shows there: a kubeconfig, the service account of a pod, or neither.
import { mkdirSync, rmSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { ExitCode, ExitError } from '../../../daemon/base/errors.ts';
import { accessOf } from '../../../daemon/source/kubernetes/find-access.ts';
import { inCluster } from '../../../daemon/source/kubernetes/in-cluster.ts';
import { AccessWorld, base64, certificate, failureOf, key, otherKey } from './access-fixture.ts';

const hrefs = (servers: readonly URL[]): string[] => servers.map(({ href }) => href);

describe('a kubeconfig', () => {
  test('says where the server is and who we are', async () => {
    const world = new AccessWorld();
    const access = world.access({ user: { token: 'abc' } });
    expect(hrefs(access.servers)).toEqual(['https://10.0.0.1:6443/']);
    expect(access.shown).toBe(`user admin of ${world.path('config')}`);
    expect(await access.authorization()).toBe('Bearer abc');
    expect(await access.tls()).toEqual({});
  });

  test('is overruled by the servers that are given', () => {
    const servers = [new URL('https://10.0.0.7:6443'), new URL('https://10.0.0.8:6443')];
    expect(new AccessWorld().access({ servers }).servers).toEqual(servers);
    expect(new AccessWorld().access({ servers, cluster: { server: '' } }).servers).toEqual(servers);
  });

  test('takes the first entry of a name and what its context names, not what is around', async () => {
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

  test('holds certificates and key as data', async () => {
    const user = { 'client-certificate-data': base64(certificate), 'client-key-data': base64(key) };
    const cluster = { 'certificate-authority-data': base64(certificate), 'tls-server-name': 'kubernetes' };
    const access = new AccessWorld().access({ cluster, user });
    expect(await access.tls()).toEqual({ ca: certificate, cert: certificate, key, servername: 'kubernetes' });
    expect(await access.authorization()).toBeUndefined();
  });

  test('names files, beside itself or anywhere, that are read each time', async () => {
    const world = new AccessWorld();
    mkdirSync(world.path('pki'));
    const user = { 'client-certificate': 'pki/client.crt', 'client-key': world.path('pki/client.key'), tokenFile: './token' };
    const access = world.access({ cluster: { 'certificate-authority': 'pki/ca.crt' }, user });
    expect(await failureOf(world, () => access.tls())).toBe('CredentialError: cannot read pki/client.crt: no such file or directory');

    world.write('pki/client.crt', certificate);
    world.write('pki/client.key', otherKey());
    world.write('pki/ca.crt', 'not yet');
    expect(await failureOf(world, () => access.tls())).toBe(
      'CredentialError: the client key of user admin of config does not belong to its certificate',
    );
    world.write('pki/client.key', key);
    expect(await failureOf(world, () => access.tls())).toBe('CredentialError: pki/ca.crt holds no PEM certificate');
    world.write('pki/ca.crt', certificate);
    expect(await access.tls()).toEqual({ ca: certificate, cert: certificate, key });

    world.write('token', 'first\n');
    expect(await access.authorization()).toBe('Bearer first');
    world.write('token', 'second');
    expect(await access.authorization()).toBe('Bearer second');
    world.write('token', ' \n');
    expect(await failureOf(world, () => access.authorization())).toBe(
      'CredentialError: token holds no token: it must be one word of ASCII characters',
    );
  });

  test('may hold both data and file: the data counts; both token and tokenFile: the file counts', async () => {
    const world = new AccessWorld();
    world.write('token', 'of-the-file');
    const user = { token: 'of-the-field', tokenFile: 'token' };
    const cluster = { 'certificate-authority': 'missing', 'certificate-authority-data': base64(certificate) };
    const access = world.access({ cluster, user });
    expect(await access.tls()).toEqual({ ca: certificate });
    expect(await access.authorization()).toBe('Bearer of-the-file');
  });

  test('can say that any certificate will do', async () => {
    expect(await new AccessWorld().access({ cluster: { 'insecure-skip-tls-verify': true } }).tls()).toEqual({ rejectUnauthorized: false });
  });

  test('whose client certificate is damaged says so', async () => {
    const world = new AccessWorld();
    world.write('client.crt', 'damaged');
    world.write('client.key', key);
    const access = world.access({ user: { 'client-certificate': 'client.crt', 'client-key': 'client.key' } });
    expect(await failureOf(world, () => access.tls())).toMatch(
      /^CredentialError: the client certificate or key of user admin of config cannot be used: /,
    );
  });
});

describe('a kubeconfig that is wrong refuses the start with the field', () => {
  const context = 'contexts: [{name: x, context: {cluster: c, user: u}}]';
  test.for([
    { name: 'nothing', text: '', want: 'must be an object' },
    { name: 'a list', text: '- a\n', want: 'must be an object' },
    { name: 'no YAML, and nothing of it is quoted', text: 'users:\n  token: "s3cret\n', want: /^line 3 is not YAML: (?!.*s3cret)/ },
    { name: 'no current context', text: 'current-context: ""\n', want: 'current-context: must be a name, is ""' },
    { name: 'a current context that is not there', text: 'current-context: x\n', want: 'current-context: names no context, is "x"' },
    { name: 'contexts that are no list', text: 'current-context: x\ncontexts: {x: {}}\n', want: 'contexts: must be a list' },
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
      name: 'a cluster that is not there',
      text: `current-context: x\n${context}\n`,
      want: 'contexts[0].context.cluster: names no cluster, is "c"',
    },
    {
      name: 'a user that is not there',
      text: `current-context: x\n${context}\nclusters: [{name: c, cluster: {}}]\n`,
      want: 'contexts[0].context.user: names no user, is "u"',
    },
  ])('$name', async ({ text, want }) => {
    const world = new AccessWorld();
    const told = await failureOf(world, () => world.accessOf(text));
    expect(told).toMatch(/^ExitError: config: /);
    const rest = told.slice('ExitError: config: '.length);
    if (typeof want === 'string') expect(rest).toBe(want);
    else expect(rest).toMatch(want);
  });

  const noAddress = (shown: string): string => `server: must be an address such as https://10.0.0.1:6443, is ${shown}`;
  test.for([
    [{ server: '' }, 'server: must be an address such as https://10.0.0.1:6443, is missing'],
    [{ server: 'http://10.0.0.1:8080' }, noAddress('"http://10.0.0.1:8080"')],
    [{ server: '10.0.0.1:6443' }, noAddress('"10.0.0.1:6443"')],
    [{ server: 'https://me:word@10.0.0.1' }, 'server: must be an address such as https://10.0.0.1:6443, and name no user'],
    [{ server: 'https://proxy/k8s?cluster=1' }, noAddress('"https://proxy/k8s?cluster=1"')],
    [{ server: 6443 }, 'server: must be a string, is 6443'],
    [{ 'proxy-url': 'http://proxy:3128' }, 'proxy-url: is not supported: sluiced connects to the API server directly'],
    [{ 'insecure-skip-tls-verify': 'yes' }, 'insecure-skip-tls-verify: must be true or false, is "yes"'],
    [{ 'certificate-authority-data': 'AAAA' }, 'certificate-authority-data: must be a PEM certificate in base64'],
    [
      { 'insecure-skip-tls-verify': true, 'certificate-authority': 'ca.crt' },
      'insecure-skip-tls-verify: must not be true beside a certificate-authority',
    ],
  ] as const)('cluster %j', async ([cluster, want]) => {
    const world = new AccessWorld();
    expect(await failureOf(world, () => world.access({ cluster }))).toBe(`ExitError: config: clusters[0].cluster.${want}`);
  });

  const exec = { apiVersion: 'client.authentication.k8s.io/v1', command: 'true' };
  const nobodyElse = 'is not supported: sluiced speaks as the user itself';
  const noPassword = 'is not supported: no API server takes passwords since Kubernetes 1.19, use a token or a client certificate';
  test.for([
    [{ as: 'other' }, `as: ${nobodyElse}`],
    [{ 'as-uid': '1' }, `as-uid: ${nobodyElse}`],
    [{ 'as-groups': ['system:masters'] }, `as-groups: ${nobodyElse}`],
    [{ 'as-user-extra': { a: ['b'] } }, `as-user-extra: ${nobodyElse}`],
    [{ username: 'root' }, `username: ${noPassword}`],
    [{ password: 's3cret' }, `password: ${noPassword}`],
    [{ 'auth-provider': { name: 'gcp' } }, 'auth-provider: is not supported: kubectl does not know it either since 1.26, use exec'],
    [{ token: 12345 }, 'token: must be a string'],
    [{ token: 's3cret word' }, 'token: must be one word of ASCII characters'],
    [{ 'client-certificate': 'client.crt' }, 'client-key: is missing beside client-certificate'],
    [{ 'client-key': 'client.key' }, 'client-certificate: is missing beside client-key'],
    [{ 'client-key-data': base64('s3cret') }, 'client-key-data: must be a PEM private key in base64'],
    [{ exec, token: 's3cret' }, 'exec: must be the only credential of the user: remove it, or token, tokenFile and client-certificate'],
    [{ exec: { ...exec, command: '' } }, 'exec.command: must be a command, is ""'],
    [
      { exec: { ...exec, apiVersion: 'client.authentication.k8s.io/v1alpha1' } },
      'exec.apiVersion: must be client.authentication.k8s.io/v1 or client.authentication.k8s.io/v1beta1, is "client.authentication.k8s.io/v1alpha1"',
    ],
    [
      { exec: { ...exec, interactiveMode: 'Always' } },
      'exec.interactiveMode: is Always, and sluiced has no terminal to ask at: must be Never or IfAvailable',
    ],
    [{ exec: { ...exec, interactiveMode: 'never' } }, 'exec.interactiveMode: must be Never or IfAvailable, is "never"'],
    [{ exec: { ...exec, args: '--token s3cret' } }, 'exec.args: must be a list'],
    [{ exec: { ...exec, env: [{ name: 'A', value: 1 }] } }, 'exec.env[0].value: must be a string'],
  ] as const)('user %j', async ([user, want]) => {
    const world = new AccessWorld();
    expect(await failureOf(world, () => world.access({ user }))).toBe(`ExitError: config: users[0].user.${want}`);
  });

  test('what is empty is not there', async () => {
    const cluster = { 'proxy-url': '', 'certificate-authority': '', 'tls-server-name': null, extensions: null };
    const user = { as: '', 'as-groups': [], 'as-user-extra': {}, username: null, token: '', tokenFile: '', exec: null };
    const access = new AccessWorld().access({ cluster, user });
    expect([await access.tls(), await access.authorization()]).toEqual([{}, undefined]);
  });

  test('a file that cannot be read', async () => {
    const world = new AccessWorld();
    const find = (): unknown => accessOf({ kubeconfig: world.path('nowhere'), apiServers: [], env: {}, clock: world.clock });
    expect(await failureOf(world, find)).toBe('ExitError: cannot read the --kubeconfig file nowhere: no such file or directory');
    expect(find).toThrow(expect.objectContaining({ exitCode: ExitCode.config }));
  });
});

describe('a pod', () => {
  test('shows the token that the kubelet last wrote, and trusts the CA beside it', async () => {
    const world = new AccessWorld();
    const access = inCluster({ directory: world.folder, env: { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '6443' } });
    expect(hrefs(access.servers)).toEqual(['https://10.96.0.1:6443/']);
    expect(access.shown).toBe(`the service account in ${world.folder}`);
    expect(await failureOf(world, () => access.authorization())).toBe('CredentialError: cannot read token: no such file or directory');
    expect(await failureOf(world, () => access.tls())).toBe('CredentialError: cannot read ca.crt: no such file or directory');

    world.write('ca.crt', certificate);
    world.write('token', 'first');
    expect([await access.tls(), await access.authorization()]).toEqual([{ ca: certificate }, 'Bearer first']);
    world.write('token', 'second\n');
    expect(await access.authorization()).toBe('Bearer second');
    access.forget('Bearer second');
    rmSync(world.path('token'));
    expect(await failureOf(world, () => access.authorization())).toBe('CredentialError: cannot read token: no such file or directory');
  });

  test.for([
    [{ KUBERNETES_SERVICE_HOST: 'fd00:96::1', KUBERNETES_SERVICE_PORT: '443' }, 'https://[fd00:96::1]/'],
    [{ KUBERNETES_SERVICE_HOST: '[fd00:96::1]', KUBERNETES_SERVICE_PORT: '6443' }, 'https://[fd00:96::1]:6443/'],
    [{ KUBERNETES_SERVICE_HOST: 'api.example', KUBERNETES_SERVICE_PORT: '' }, 'https://api.example/'],
  ] as const)('finds the server in %j', ([env, want]) => {
    expect(hrefs(inCluster({ directory: '/', env }).servers)).toEqual([want]);
  });

  test.for([
    [{}, ExitCode.usage, 'KUBERNETES_SERVICE_HOST is not set: give --api-server URL'],
    [
      { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: 'tcp://10.96.0.1:443' },
      ExitCode.config,
      'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address: https://10.96.0.1:tcp://10.96.0.1:443',
    ],
    [
      { KUBERNETES_SERVICE_HOST: 'a/b', KUBERNETES_SERVICE_PORT: '1' },
      ExitCode.config,
      'KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT make no address: https://a/b:1',
    ],
  ] as const)('refuses %j', ([env, exitCode, message]) => {
    expect(() => inCluster({ directory: '/', env })).toThrow(new ExitError(exitCode, message));
    expect(() => inCluster({ directory: '/', env })).toThrow(expect.objectContaining({ exitCode }));
  });
});

describe('which way', () => {
  const inPod = { KUBERNETES_SERVICE_HOST: '10.96.0.1', KUBERNETES_SERVICE_PORT: '443' };

  test('a kubeconfig that is given, even in a pod', () => {
    const world = new AccessWorld();
    world.access();
    const { access, dependsOnClusterIP } = accessOf({ kubeconfig: world.path('config'), apiServers: [], env: inPod, clock: world.clock });
    expect([hrefs(access.servers), dependsOnClusterIP]).toEqual([['https://10.0.0.1:6443/'], false]);
  });

  test('the service account, when its folder or KUBERNETES_SERVICE_HOST is there', () => {
    const { folder, clock } = new AccessWorld();
    const apiServers = [new URL('https://10.0.0.1:6443')];
    const mounted = accessOf({ apiServers, env: {}, clock, serviceAccount: folder });
    expect([mounted.access.servers, mounted.dependsOnClusterIP]).toEqual([apiServers, false]);
    const named = accessOf({ apiServers: [], env: inPod, clock, serviceAccount: `${folder}/nowhere` });
    expect([hrefs(named.access.servers), named.dependsOnClusterIP]).toEqual([['https://10.96.0.1/'], true]);
  });

  test('none is refused with what to give', () => {
    const { folder, clock } = new AccessWorld();
    const find = (): unknown => accessOf({ apiServers: [], env: {}, clock, serviceAccount: `${folder}/nowhere` });
    const message = 'there is nothing to read Services from: give --source DIR, --kubeconfig FILE, or run in a pod';
    expect(find).toThrow(expect.objectContaining({ message, exitCode: ExitCode.usage }));
  });
});
