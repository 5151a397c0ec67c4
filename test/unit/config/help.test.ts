// SPDX-License-Identifier: Apache-2.0
// What sluiced prints about its settings: --help, --version and --check-config; and the table of flags in daemon/README.md.
import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';

import { configFromCommandLine } from '../../../daemon/config/command-line.ts';
import { parseConfig } from '../../../daemon/config/resolve.ts';
import { allSettings, type Config } from '../../../daemon/config/schema.ts';
import { flagsTable } from '../../support/flags-table.ts';

const reader =
  (file: string | undefined) =>
  (path: string): string => {
    if (file === undefined || path !== '/etc/s.yaml') throw new Error(`ENOENT: no such file or directory, open '${path}'`);
    return file;
  };

const base = ['--source', '/src', '--node', 'n1'];

describe('words only', () => {
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

  test('--version wins over missing settings', () => {
    expect(printed(['--version'])).toEqual({ text: 'sluiced 0.1.0\ncommit abc\nlibbpf 1.5\nkernel 6.18.0\n', config: undefined });
  });

  test('--help names every flag, every variable and the exit codes', () => {
    const { text } = printed(['-h']);
    for (const { name, environment } of allSettings()) expect(text).toMatch(new RegExp(`--${name} [^]*${environment}`));
    expect(text).toMatchInlineSnapshot(`
      "Usage: sluiced [flags]

      Sluice node agent: watches Services, translates their packets in the kernel, serves an API.

      Options:
        --source <DIR>                                directory of Service, EndpointSlice and Node YAML, watched;
                                                      default: the API server (SLUICE_SOURCE)
        --kubeconfig <FILE>                           how to reach the API server; default: as the service account
                                                      of the pod that this runs in (SLUICE_KUBECONFIG)
        --api-server <URL,...>                        addresses of the API server, tried in turn, in place of the
                                                      kubeconfig's or of the ClusterIP that pods are told
                                                      (SLUICE_API_SERVER)
        --node <NAME>                                 name of the Node this agent serves (SLUICE_NODE, default the
                                                      host's name)
        --pod-interfaces <PREFIX,...>                 devices whose names begin so lead to pods: they get programs
                                                      as they appear (SLUICE_POD_INTERFACES)
        --uplinks <DEV,...>                           devices that lead out of the node (SLUICE_UPLINKS)
        --service-cidr <CIDR,...>                     Service address ranges beside those of ServiceCIDR objects:
                                                      unallocated addresses in them are dropped
                                                      (SLUICE_SERVICE_CIDR)
        --cluster-cidr <CIDR,...>                     ranges of pod addresses, for detect-local-mode ClusterCIDR
                                                      (SLUICE_CLUSTER_CIDR)
        --detect-local-mode <MODE>                    how pods are told, whose packets to ClusterIPs keep their
                                                      source: by cluster-cidr, by the Node's podCIDRs, by
                                                      pod-interfaces, or not (ClusterCIDR, NodeCIDR,
                                                      InterfaceNamePrefix, none) (SLUICE_DETECT_LOCAL_MODE, default
                                                      ClusterCIDR)
        --masquerade-all [on|off]                     masquerade everything that goes to a ClusterIP
                                                      (SLUICE_MASQUERADE_ALL, default off) (preset: "on")
        --node-port-addresses <all|primary|CIDR,...>  addresses of the node on which NodePorts are served: all but
                                                      loopback, the Node's primary ones, or those within CIDRs
                                                      (SLUICE_NODE_PORT_ADDRESSES, default primary)
        --snat-ports <FIRST-LAST,...>                 source ports of masqueraded flows: one or two ranges, apart
                                                      from NodePorts and the host's ip_local_port_range
                                                      (SLUICE_SNAT_PORTS, default 1024-29999,61000-65535)
        --socket-lb <on|off>                          translate connect() and its relatives in socket hooks
                                                      (SLUICE_SOCKET_LB, default on)
        --cgroup <DIR>                                cgroup2 directory for the socket hooks; default: the cgroup2
                                                      mount (SLUICE_CGROUP)
        --pin-path <DIR>                              where in a bpffs maps and links are pinned (SLUICE_PIN_PATH,
                                                      default /sys/fs/bpf/sluice)
        --socket <PATH>                               Unix socket of the gRPC API (SLUICE_SOCKET, default
                                                      /run/sluice/sluice.sock)
        --socket-group <NAME>                         group that may use the API; default: root only
                                                      (SLUICE_SOCKET_GROUP)
        --http <ADDR:PORT>                            /healthz, /readyz and /metrics; "off" for none (SLUICE_HTTP,
                                                      default 127.0.0.1:9880)
        --healthz-bind-address <ADDR:PORT>            /healthz and /livez as kube-proxy answers them, for load
                                                      balancers and the kubelet; "off" for none
                                                      (SLUICE_HEALTHZ_BIND_ADDRESS, default 0.0.0.0:10256)
        --sync-period <TIME>                          how often pins, links and maps are compared with what they
                                                      should be, and put right (SLUICE_SYNC_PERIOD, default 10s)
        --log-level <LEVEL>                           trace, debug, info, warn, error or fatal (SLUICE_LOG_LEVEL,
                                                      default info)
        --log-format <text|json>                      text for people, json for collectors (SLUICE_LOG_FORMAT,
                                                      default json)
        --max-services <N>                            most Service ports, each family counting (SLUICE_MAX_SERVICES,
                                                      default 65536)
        --max-frontends <N>                           most frontends per family (SLUICE_MAX_FRONTENDS, default
                                                      65536)
        --max-backends <N>                            most backends per family (SLUICE_MAX_BACKENDS, default 262144)
        --max-slots <N>                               most slots, a multiple of 16 (SLUICE_MAX_SLOTS, default
                                                      1048576)
        --max-flows <N>                               most flow rows per family, two to a flow; the oldest make room
                                                      (SLUICE_MAX_FLOWS, default 262144)
        --max-socket-flows <N>                        most translated UDP socket peers remembered
                                                      (SLUICE_MAX_SOCKET_FLOWS, default 65536)
        --config <FILE>                               YAML or JSON file of these settings, keys without "--"
                                                      (SLUICE_CONFIG)
        --check-config                                check the settings, print each with its origin, and exit
        --version                                     print version, commit, libbpf and kernel, and exit
        -h, --help                                    print this, and exit

      Every setting is taken from the last of: its default, the --config file, its environment variable, its flag.
      A list flag may be given again. Empty variables count as not given.

      Exit codes:
        0  stopped as asked
        1  failed while starting, running or stopping
        2  a flag is wrong
        3  the settings file, the environment or the host is wrong
        4  another daemon holds the pin path or the socket
        5  the kernel refused, or lacks what is needed
        6  sluice only: the daemon cannot be reached
        7  the process lacks a capability
        8  the pin path is not on a bpffs, cannot be written, or is not ours
        9  there is no cgroup v2, or --cgroup is none
        10  another program holds a hook alone
        11  the pinned state is of another version
      "
    `);
  });

  test('--check-config prints a settings file with origins, which reads back as the same', () => {
    const { text, config } = printed(
      ['--config', '/etc/s.yaml', '--check-config', '--node', 'n1', '--http', '[::1]:1'],
      'source: "/my dir"\n',
    );
    expect(config).toBeUndefined();
    expect(text).toMatchInlineSnapshot(`
      "source: "/my dir"                    # /etc/s.yaml line 1
      # kubeconfig:                        # not set
      # api-server:                        # not set
      node: n1                             # flag --node
      # pod-interfaces:                    # not set
      uplinks: eth0                        # environment SLUICE_UPLINKS
      # service-cidr:                      # not set
      # cluster-cidr:                      # not set
      detect-local-mode: ClusterCIDR       # default
      masquerade-all: off                  # default
      node-port-addresses: primary         # default
      snat-ports: 1024-29999,61000-65535   # default
      socket-lb: on                        # default
      # cgroup:                            # not set
      pin-path: /sys/fs/bpf/sluice         # default
      socket: /run/sluice/sluice.sock      # default
      # socket-group:                      # not set
      http: "[::1]:1"                      # flag --http
      healthz-bind-address: 0.0.0.0:10256  # default
      sync-period: 10s                     # default
      log-level: info                      # default
      log-format: json                     # default
      max-services: 65536                  # default
      max-frontends: 65536                 # default
      max-backends: 262144                 # default
      max-slots: 1048576                   # default
      max-flows: 262144                    # default
      max-socket-flows: 65536              # default
      "
    `);
    const again = parseConfig(['--config', '/etc/s.yaml'], {}, reader(text));
    expect(again).toMatchObject({ source: '/my dir', node: 'n1', uplinks: ['eth0'], http: { address: '::1', port: 1 } });
  });

  test('--check-config refuses what a start would refuse', () => {
    expect(() => printed(['--check-config', '--node', 'N'])).toThrow('--node N is not a Node name');
  });

  test('without them the settings come back and nothing is printed', () => {
    expect(printed(base)).toMatchObject({ text: '', config: { node: 'n1', uplinks: ['eth0'] } });
  });

  test('the table in daemon/README.md is generated from the schema', () => {
    const readme = readFileSync(new URL('../../../daemon/README.md', import.meta.url), 'utf8');
    const [, table] = /^<!-- flags -->\n\n([^]*)\n<!-- \/flags -->$/m.exec(readme) ?? [];
    expect(table, 'node test/support/flags-table.ts prints the table').toBe(flagsTable());
  });

  test('the table says what --help says', () => {
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
