#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sluiced with what suits a node agent, which is idle most of its life and must be up soon; measured by `npm run bench`:
# a small young generation (memory; 1 MiB costs a cold start 7 % more CPU, 4 gains nothing), no TurboFan above Maglev (5 MiB,
# and what it compiles in a cold start never pays), one malloc arena (3 MiB idle, 10 MiB with 100,000 endpoints). Everybody
# starts it by this: npm, the image, the bench.
MALLOC_ARENA_MAX=1 exec node --max-semi-space-size=2 --no-turbofan "${0%/*}/main.ts" "$@"
