// SPDX-License-Identifier: Apache-2.0
// Types that the definitions of the commands share: the process (Runtime) and the global options. This file has types only, so
// importing it loads no module.
import type { Option } from 'commander';
import type { Setting } from '../config/schema.ts';
import type { Daemon } from './client.ts';
import type { ExplainOptions } from './explain.ts';
import type { PlanOptions } from './plan.ts';
import type { PreflightOptions } from './preflight.ts';
import type { UninstallOptions } from './uninstall.ts';

/** The process: environment, output, and the commands whose modules are loaded only when they run. Tests pass another Runtime. */
export interface Runtime {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  /** Resolves to the exit code. */
  readonly plan: (options: PlanOptions) => Promise<number>;
  readonly explain: (options: ExplainOptions) => Promise<void>;
  /** Resolves to the exit code. */
  readonly uninstall: (options: UninstallOptions) => Promise<number>;
  /** Resolves to the exit code. */
  readonly preflight: (options: PreflightOptions) => Promise<number>;
}

/** A setting of sluiced that is also a flag of plan and explain. */
export interface SettingFlag {
  readonly setting: Setting;
  readonly option: Option;
}

export interface Context {
  readonly runtime: Runtime;
  /** The daemon that the global options name. Valid only inside an action. */
  readonly daemon: () => Daemon;
  /** Exit code of a command that ends without an error. */
  readonly outcome: { exitCode: number };
  readonly settings: readonly SettingFlag[];
}
