// SPDX-License-Identifier: Apache-2.0
// Keeps the rule of --accept-forwarded in the chains of nftables that drop what no rule accepts, and removes it if the setting is off.
// Compares once per period, and only if rules have changed. The rule is the last one, or comes before a last rule that drops everything,
// so that every other rule of the chain can still drop a packet. It must never change another rule.
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Unit } from '../base/lifecycle.ts';
import type { StatusPart } from '../base/status-part.ts';
import { addMarkRule, deleteRule, type ForwardChain, forwardChains, rulesGeneration } from '../kernel/nftables.ts';
import { FORWARD_MARK } from '../model/firewall.ts';
import { allChains, chainProblem, chainText, inspected, isAbsent, legacyProblems, type NftChain, ownComment } from './forward-hook.ts';

export interface ForwardRulesOptions {
  /** The setting --accept-forwarded. */
  readonly isAccepting: boolean;
  readonly clock: Pick<Clock, 'setTimer'>;
  readonly periodMs: number;
  /** Called for each rule that was added again. */
  readonly onRepaired: (message: string) => void;
}

export class ForwardRules implements StatusPart, Unit {
  readonly name = 'firewall';
  readonly #options: ForwardRulesOptions;
  #problems: readonly string[] = [];
  /** What was found in the rules of nftables of this generation. */
  #compared: { readonly generation: number; readonly problems: readonly string[] } | undefined;
  #cancel: (() => void) | undefined;
  #isRunning = false;
  /** Chains to which this process has added the rule. */
  readonly #added = new Set<string>();

  constructor(options: ForwardRulesOptions) {
    this.#options = options;
  }

  /** Compares now, and then once per period. Never rejects. */
  async start(): Promise<void> {
    this.#isRunning = true;
    await this.#look();
    this.#schedule();
  }

  /** The rules stay, like programs and maps. */
  async stop(): Promise<void> {
    this.#isRunning = false;
    this.#cancel?.();
  }

  problems(): readonly string[] {
    return this.#problems;
  }

  #schedule(): void {
    if (!this.#isRunning) return;
    const again = async (): Promise<void> => {
      await this.#look();
      this.#schedule();
    };
    this.#cancel = this.#options.clock.setTimer(this.#options.periodMs, () => void again());
  }

  async #look(): Promise<void> {
    try {
      this.#problems = [...(await this.#nftProblems()), ...legacyProblems(this.#options.isAccepting)];
    } catch (error) {
      this.#compared = undefined;
      this.#problems = [
        `the rules of netfilter cannot be read, so it is unknown whether they drop packets of Services: ${messageOf(error)}`,
      ];
    }
  }

  async #nftProblems(): Promise<readonly string[]> {
    try {
      const generation = rulesGeneration();
      if (this.#compared?.generation === generation) return this.#compared.problems;
      const chains = await chainsInTurns();
      // The rules changed while they were read: the next comparison reads them again.
      if (chains === undefined) return this.#compared?.problems ?? [];
      const problems = chains.map(inspected).flatMap((chain) => this.#keep(chain));
      this.#compared = { generation, problems };
      return problems;
    } catch (error) {
      if (isAbsent(error)) return [];
      throw error;
    }
  }

  /** Adds or removes the rule, and returns what is wrong with the chain afterwards. */
  #keep(found: NftChain): string[] {
    const { chain, own, isClosed, isAccepted, lastDrop } = found;
    const { isAccepting, onRepaired } = this.#options;
    const name = chainText(chain);
    try {
      if (!isAccepting) for (const { handle } of own) deleteRule(chain, handle);
      if (isAccepting && isClosed && !isAccepted) {
        addMarkRule(chain, { mark: FORWARD_MARK, comment: ownComment, before: lastDrop?.handle });
        if (this.#added.has(name)) onRepaired(`${name}: the rule of --accept-forwarded was missing`);
        this.#added.add(name);
      }
      return isClosed && !isAccepting ? [chainProblem(found)] : [];
    } catch (error) {
      return [`the rule of --accept-forwarded could not be ${isAccepting ? 'added to' : 'removed from'} ${name}: ${messageOf(error)}`];
    }
  }
}

/** The chains of the forward hook, read in several rounds of the event loop. Undefined if the rules changed meanwhile. */
async function chainsInTurns(): Promise<ForwardChain[] | undefined> {
  const found: ForwardChain[] = [];
  for (const part of forwardChains()) {
    if (part === undefined) return undefined;
    found.push(...part);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return found;
}

/** A rule of --accept-forwarded on this node. */
export interface OwnRule {
  readonly what: string;
  /** Throws KernelError. */
  readonly remove: () => void;
}

/** The rules of this and earlier processes, for the removal of Sluice. Throws KernelError. */
export const ownRules = (): OwnRule[] =>
  allChains().flatMap(({ chain, own }) =>
    own.map(({ handle }) => ({ what: `rule in ${chainText(chain)}`, remove: () => deleteRule(chain, handle) })),
  );
