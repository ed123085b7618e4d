#!/usr/bin/env bash
# Compares cache policies on the demo model: builds what is needed and writes comparison/report.html, results.json, results.csv and videos.
#
#   scripts/compare_demo.sh [FOLDER [longtake compare options]]    for example: scripts/compare_demo.sh runs --seeds 3
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-comparison}
shift || true
scripts/build.sh cpu longtake
echo "compare_demo: every policy on 4 prompts, a few minutes on two cores" >&2
build/cpu/apps/longtake compare -m demo -o "$folder" --frames 49 --steps 30 --side-by-side all \
  --prompts scripts/compare_demo_prompts.txt \
  --policies "none; causal; causal@steps=15; teacache; teacache:base=causal,threshold=0.07; flowcache; flowcache:fast; motioncache; motioncache:slow; motioncache:fast; motioncache:slow@ar_step=0; predict:fast; driftcache; causal@kv=stream:1" \
  "$@"
echo "compare_demo: open $folder/report.html in a browser" >&2
