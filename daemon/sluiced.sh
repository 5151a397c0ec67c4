#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Starts sluiced with options for a node agent, which is idle most of the time and must start fast. npm, the image and the
# benchmarks start sluiced with this script. `npm run bench` measured the effects:
# - A small young generation saves memory. 1 MiB instead of 2 MiB costs 7 % more CPU in a cold start; 4 MiB gains nothing.
# - TurboFan is off, which saves 5 MiB. The code that it compiles in a cold start never pays off.
# - One malloc arena saves 3 MiB when idle, and 10 MiB with 100,000 endpoints.
# Node.js crashes when it may open fewer than 24 files, so this script tests that limit. sluiced itself tests the larger limit
# that it needs. The hard limit counts, because Node.js raises the soft limit to the hard limit.
# shellcheck disable=SC3045 # ulimit has -H in dash (the sh of Debian) and in bash.
limit=$(ulimit -H -n)
if [ "$limit" != unlimited ] && [ "$limit" -lt 24 ]; then
	echo "sluiced: this process may open $limit files, and sluiced needs at least 256: raise the limit (ulimit -n)" >&2
	exit 3
fi
MALLOC_ARENA_MAX=1 exec node --max-semi-space-size=2 --no-turbofan "${0%/*}/main.ts" "$@"
