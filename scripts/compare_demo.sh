#!/usr/bin/env bash
# Compares cache policies on the demo model: builds what is needed and writes comparison/report.html, results.json, results.csv and videos.
#
#   scripts/compare_demo.sh [FOLDER [longtake compare options]]    for example: scripts/compare_demo.sh runs --seeds 3
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-comparison}
shift || true
scripts/build.sh cpu longtake
echo "compare_demo: 9 policies on 4 prompts, several minutes on two cores" >&2
build/cpu/apps/longtake compare -m demo -o "$folder" --frames 49 --steps 30 --side-by-side all \
  --prompts scripts/compare_demo_prompts.txt \
  --policies "none; causal; motioncache:slow; motioncache:fast; motioncache:slow,threshold=0.3; motioncache:slow,floor=1,vote=off,min_ratio=0; motioncache:slow@ar_step=0; causal@steps=15; driftcache" \
  "$@"
echo "compare_demo: open $folder/report.html in a browser" >&2
