#!/usr/bin/env bash
# Installs what is missing, builds everything and runs all tests.   scripts/test.sh [ctest options]
#
# Golden tests against tensors of the reference programs run where LONGTAKE_GOLDEN names their folder, and skip elsewhere; so do
# tests with VBench's own prompt files (VBench_full_info.json, all_dimension_longer.txt) where LONGTAKE_VBENCH_DATA names theirs.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh cpu
echo "test: running all tests" >&2
ctest --preset cpu "$@"
