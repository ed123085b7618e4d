#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests.   scripts/test.sh [ctest options]
#
# Golden tests against tensors of the reference programs run where LONGTAKE_GOLDEN names their folder, and skip elsewhere.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh cpu
echo "test: running all tests" >&2
ctest --preset cpu "$@"
