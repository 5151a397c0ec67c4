#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Starts sluiced with options for a node agent, which is idle most of the time and must start fast. npm, the image and the
# benchmarks start sluiced with this script. `npm run bench` measured the effects:
# - a small young generation saves memory; 1 MiB instead of 2 costs 7 % more CPU in a cold start, 4 MiB gains nothing;
# - without TurboFan: 5 MiB less, and the code that it compiles in a cold start never pays off;
# - one malloc arena: 3 MiB less when idle, 10 MiB less with 100,000 endpoints.
# Node.js itself crashes when it may open fewer than 24 files. sluiced tests the limit that it needs, which is larger.
# shellcheck disable=SC3045 # The sh of Debian, dash, has -H, and so has bash. Node.js raises the soft limit to the hard limit.
limit=$(ulimit -H -n)
if [ "$limit" != unlimited ] && [ "$limit" -lt 24 ]; then
	echo "sluiced: this process may open $limit files, and sluiced needs at least 256: raise the limit (ulimit -n)" >&2
	exit 3
fi
MALLOC_ARENA_MAX=1 exec node --max-semi-space-size=2 --no-turbofan "${0%/*}/main.ts" "$@"
