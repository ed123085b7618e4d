#!/usr/bin/env bash
# The first thing to run: installs what is missing, builds longtake and generates demo.mp4 with the demo model that comes with it.
#
#   scripts/demo.sh [longtake generate options]      for example: scripts/demo.sh -p "a blue star moves up over grass" --seed 3
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/build.sh cpu longtake
echo "demo: generating demo.mp4" >&2
build/cpu/apps/longtake generate -m demo -p "a red circle moves from left to right over grass" -o demo.mp4 "$@"
echo "demo: done, see $PWD/demo.mp4" >&2
