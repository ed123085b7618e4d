#!/usr/bin/env bash
# Sets up and builds:  scripts/build.sh [PRESET [TARGET...]]   (presets: cpu, cuda, asan; see CMakePresets.json)
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${1:-cpu}
shift || true
libtorch=$(scripts/setup.sh | tail -n 1)
echo "build: configuring preset $preset" >&2
cmake --preset "$preset" -DLibTorch_ROOT="$libtorch" >&2
echo "build: compiling into build/$preset (the first time takes some minutes)" >&2
cmake --build --preset "$preset" ${1:+--target "$@"} >&2
