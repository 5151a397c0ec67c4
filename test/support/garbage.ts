// SPDX-License-Identifier: Apache-2.0
// V8's garbage collector for tests that measure memory. Without a collection first, a measurement includes an unknown amount of garbage.
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

setFlagsFromString('--expose-gc');

/** Collects all garbage of this process before it returns. */
export const collectGarbage = runInNewContext('gc') as () => void;
