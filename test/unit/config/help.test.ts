// SPDX-License-Identifier: Apache-2.0
// What sluiced prints about its settings: --help, --version and --check-config; and the table of flags in daemon/README.md.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

import { configFromCommandLine } from '../../../daemon/config/command-line.ts';
import { parseConfig } from '../../../daemon/config/resolve.ts';
import { allSettings, type Config } from '../../../daemon/config/schema.ts';
import { missingFile } from '../../support/builders.ts';
import { flagsTable } from '../../support/flags-table.ts';

const reader =
  (file: string | undefined) =>
  (path: string): string => {
    if (file === undefined || path !== '/etc/s.yaml') throw missingFile(path);
    return file;
  };

const base = ['--source', '/src', '--node', 'n1'];

describe('texts', () => {
  const versions = () => ({ version: '0.1.0', commit: 'abc', libbpf: '1.5', kernel: '6.18.0' });

  function printed(argv: readonly string[], file?: string): { text: string; config: Config | undefined } {
    let text = '';
    const config = configFromCommandLine({
      argv,
      env: { SLUICE_UPLINKS: 'eth0' },
      readFile: reader(file),
      versions,
      print: (part) => (text += part),
    });
    return { text, config };
  }

  test('--version does not require valid settings', () => {
    expect(printed(['--version'])).toEqual({ text: 'sluiced 0.1.0\ncommit abc\nlibbpf 1.5\nkernel 6.18.0\n', config: undefined });
  });

  test('--help lists every flag, every environment variable and the exit codes', () => {
    const { text } = printed(['-h']);
    for (const { name, environment } of allSettings()) expect(text).toMatch(new RegExp(`--${name} [^]*${environment}`));
    expect(text).toMatchInlineSnapshot(`
      "Usage: sluiced [flags]

      Sluice node agent: watches Services, load balances their traffic in the kernel, and serves an API.

      Options:
        --source <DIR>                                directory of Service, EndpointSlice, Node and ServiceCIDR
                                                      objects in YAML or JSON; it is watched; default: the API
                                                      server (SLUICE_SOURCE)
        --kubeconfig <FILE>                           kubeconfig file with the address of the API server and the
                                                      credentials; default: the service account of the pod
                                                      (SLUICE_KUBECONFIG)
        --api-server <URL,...>                        URLs of the API server, tried in order; they replace the
                                                      server of the kubeconfig or, in a pod, the ClusterIP of the
                                                      API server (SLUICE_API_SERVER)
        --node <NAME>                                 name of the Node that this agent serves (SLUICE_NODE, default
                                                      the host name)
        --pod-interfaces <auto|off|PREFIX,...>        pod interfaces, to which programs are attached when they
                                                      appear; auto: each veth or netkit device whose other end is in
                                                      another network namespace, except uplinks; off: none; or the
                                                      name prefixes of veth and netkit devices
                                                      (SLUICE_POD_INTERFACES, default auto)
        --uplinks <auto|off|DEV,...>                  devices through which traffic enters and leaves the node;
                                                      auto: each device through which a route leads, except pod
                                                      interfaces; off: none; or the names of devices
                                                      (SLUICE_UPLINKS, default auto)
        --service-cidr <CIDR,...>                     Service address ranges in addition to those of ServiceCIDR
                                                      objects; packets to unallocated addresses are dropped
                                                      (SLUICE_SERVICE_CIDR)
        --cluster-cidr <CIDR,...>                     pod address ranges, used by --detect-local-mode ClusterCIDR
                                                      (SLUICE_CLUSTER_CIDR)
        --detect-local-mode <MODE>                    how to recognise local pods, so that their traffic to
                                                      ClusterIPs is not masqueraded; ClusterCIDR: by --cluster-cidr;
                                                      NodeCIDR: by the podCIDRs of the Node; InterfaceNamePrefix: by
                                                      --pod-interfaces; none: not at all, and no traffic to
                                                      ClusterIPs is masqueraded (SLUICE_DETECT_LOCAL_MODE, default
                                                      ClusterCIDR)
        --masquerade-all [on|off]                     masquerade all traffic to ClusterIPs (SLUICE_MASQUERADE_ALL,
                                                      default off) (preset: "on")
        --node-port-addresses <all|primary|CIDR,...>  node addresses that serve NodePorts: all except loopback, the
                                                      primary addresses of the Node, or those within the CIDRs
                                                      (SLUICE_NODE_PORT_ADDRESSES, default primary)
        --external-ips <on|off|CIDR,...>              external IPs of Services that are served: all, none, or those
                                                      within the CIDRs; whoever may create a Service with an
                                                      external IP receives the traffic to that address from all
                                                      nodes (SLUICE_EXTERNAL_IPS, default on)
        --accept-forwarded [on|off]                   keep one rule in firewalls that drop forwarded packets by
                                                      policy, as Docker sets it; like the rules of kube-proxy, the
                                                      rule accepts masqueraded requests, the replies to them, and
                                                      ICMP errors about both (SLUICE_ACCEPT_FORWARDED, default off)
                                                      (preset: "on")
        --snat-ports <FIRST-LAST,...>                 source ports of masqueraded flows: one or two ranges that
                                                      overlap neither NodePorts nor net.ipv4.ip_local_port_range
                                                      (SLUICE_SNAT_PORTS, default 1024-29999,61000-65535)
        --socket-lb <on|off>                          translate connect() and related system calls in cgroup socket
                                                      hooks (SLUICE_SOCKET_LB, default on)
        --cgroup <DIR>                                cgroup v2 directory to which the socket hooks are attached;
                                                      default: the cgroup v2 mount (SLUICE_CGROUP)
        --pin-path <DIR>                              directory on a bpffs in which maps and links are pinned
                                                      (SLUICE_PIN_PATH, default /sys/fs/bpf/sluice)
        --socket <PATH>                               Unix socket of the gRPC API (SLUICE_SOCKET, default
                                                      /run/sluice/sluice.sock)
        --socket-group <NAME>                         group that may connect to the API socket; default: root only
                                                      (SLUICE_SOCKET_GROUP)
        --http <ADDR:PORT>                            address of /healthz, /readyz and /metrics; "off" disables them
                                                      (SLUICE_HTTP, default 127.0.0.1:9880)
        --healthz-bind-address <ADDR:PORT>            address of /healthz and /livez as kube-proxy serves them, for
                                                      load balancers and the kubelet; "off" disables them
                                                      (SLUICE_HEALTHZ_BIND_ADDRESS, default 0.0.0.0:10256)
        --metrics-bind-address <ADDR:PORT>            address of /metrics, /proxyMode and /healthz where collectors
                                                      of kube-proxy expect them; "off" disables them
                                                      (SLUICE_METRICS_BIND_ADDRESS, default 127.0.0.1:10249)
        --sync-period <TIME>                          interval at which pins, links and maps are compared with the
                                                      desired state and repaired (SLUICE_SYNC_PERIOD, default 10s)
        --log-level <LEVEL>                           lowest level that is logged: trace, debug, info, warn, error
                                                      or fatal (SLUICE_LOG_LEVEL, default info)
        --log-format <text|json>                      log format: text for people, json for log collectors
                                                      (SLUICE_LOG_FORMAT, default json)
        --max-services <N>                            maximum number of Service ports, counted once per IP family
                                                      (SLUICE_MAX_SERVICES, default 65536)
        --max-frontends <N>                           maximum number of frontends per IP family
                                                      (SLUICE_MAX_FRONTENDS, default 65536)
        --max-backends <N>                            maximum number of backends per IP family (SLUICE_MAX_BACKENDS,
                                                      default 262144)
        --max-slots <N>                               maximum number of backend slots, a multiple of 16
                                                      (SLUICE_MAX_SLOTS, default 1048576)
        --max-flows <N>                               maximum number of flow entries per IP family, two per flow;
                                                      the least recently used are evicted (SLUICE_MAX_FLOWS, default
                                                      262144)
        --max-socket-flows <N>                        maximum number of entries per IP family that store the backend
                                                      and the Service address of translated sockets
                                                      (SLUICE_MAX_SOCKET_FLOWS, default 65536)
        --config <FILE>                               YAML or JSON file of settings; its keys are flag names without
                                                      "--" (SLUICE_CONFIG)
        --check-config                                validate the settings, print each with its origin, and exit
        --version                                     print the versions of sluiced, libbpf and the kernel, and exit
        -h, --help                                    print this help, and exit

      A flag overrides its environment variable, which overrides the --config file, which overrides the default.
      A list flag may be repeated. An empty environment variable counts as not set.
      A relative path is relative to the current directory, and in the --config file to the directory of that file.

      Exit codes:
        0  success, or stopped by a signal
        1  failed during start, operation or stop
        2  a flag is invalid
        3  the settings file, the environment, a named file or the host configuration is invalid
        4  another daemon uses the pin path or the socket
        5  the kernel rejected a call or lacks a required feature
        6  sluice only: the daemon cannot be reached
        7  the process lacks a capability
        8  the pin path is not on a bpffs, is not writable, or contains the pins of another program
        9  cgroup v2 is not mounted, or --cgroup is not a cgroup v2 directory
        10  another program is attached exclusively to a hook
        11  the pinned state has another layout version
      "
    `);
  });

  test('--check-config prints a settings file with the origin of each value; reading the file gives the same settings', () => {
    const { text, config } = printed(
      ['--config', '/etc/s.yaml', '--check-config', '--node', 'n1', '--http', '[::1]:1'],
      'source: "/my dir"\n',
    );
    expect(config).toBeUndefined();
    expect(text).toMatchInlineSnapshot(`
      "source: "/my dir"                      # /etc/s.yaml line 1
      # kubeconfig:                          # not set
      # api-server:                          # not set
      node: n1                               # flag --node
      pod-interfaces: auto                   # default
      uplinks: eth0                          # environment SLUICE_UPLINKS
      # service-cidr:                        # not set
      # cluster-cidr:                        # not set
      detect-local-mode: ClusterCIDR         # default
      masquerade-all: off                    # default
      node-port-addresses: primary           # default
      external-ips: on                       # default
      accept-forwarded: off                  # default
      snat-ports: 1024-29999,61000-65535     # default
      socket-lb: on                          # default
      # cgroup:                              # not set
      pin-path: /sys/fs/bpf/sluice           # default
      socket: /run/sluice/sluice.sock        # default
      # socket-group:                        # not set
      http: "[::1]:1"                        # flag --http
      healthz-bind-address: 0.0.0.0:10256    # default
      metrics-bind-address: 127.0.0.1:10249  # default
      sync-period: 10s                       # default
      log-level: info                        # default
      log-format: json                       # default
      max-services: 65536                    # default
      max-frontends: 65536                   # default
      max-backends: 262144                   # default
      max-slots: 1048576                     # default
      max-flows: 262144                      # default
      max-socket-flows: 65536                # default
      "
    `);
    const again = parseConfig(['--config', '/etc/s.yaml'], {}, reader(text));
    expect(again).toMatchObject({ source: '/my dir', node: 'n1', uplinks: ['eth0'], http: { address: '::1', port: 1 } });
  });

  test('--check-config rejects invalid settings', () => {
    expect(() => printed(['--check-config', '--node', 'N'])).toThrow('--node N is not a valid Node name');
  });

  test('without --help, --version and --check-config, the settings are returned and nothing is printed', () => {
    expect(printed(base)).toMatchObject({ text: '', config: { node: 'n1', uplinks: ['eth0'] } });
  });

  test('the table in daemon/README.md is generated from the schema', () => {
    const readme = readFileSync(new URL('../../../daemon/README.md', import.meta.url), 'utf8');
    const [, table] = /^<!-- flags -->\n\n([^]*)\n<!-- \/flags -->$/m.exec(readme) ?? [];
    expect(table, 'node test/support/flags-table.ts prints the table').toBe(flagsTable());
  });

  test('the table in daemon/README.md has the texts of --help', () => {
    const help = printed(['--help']).text.replaceAll(/\s+/g, ' ');
    const rows = flagsTable().trim().split('\n').slice(2);
    expect(rows).toHaveLength(allSettings().length);
    for (const row of rows) {
      const [flag = '', environment = '', value = '', meaning = ''] = row
        .split(/(?<!\\)\|/)
        .slice(1)
        .map((cell) => cell.trim().replaceAll(/[`\\]/g, ''));
      const [name] = flag.split(' ');
      expect(help).toContain(` ${name} `);
      expect(help).toContain(`${meaning} (${environment}${value === '' ? '' : `, default ${value}`})`);
    }
  });
});
