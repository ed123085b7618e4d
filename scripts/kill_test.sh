#!/usr/bin/env bash
# Kills runs at random moments and resumes them until they are done; every file must end byte for byte as that of a run that
# was never killed.
#
#   scripts/kill_test.sh [KILLS [SEED]]     KILLS: at least so many (default 100); SEED: of the moments (default: printed)
#
# LONGTAKE names the program (default: build/cpu/apps/longtake).
set -euo pipefail
cd "$(dirname "$0")/.."
kills=${1:-100}
seed=${2:-$RANDOM}
tool=${LONGTAKE:-$PWD/build/cpu/apps/longtake}
[ -x "$tool" ] || { echo "kill_test: $tool is not built; run scripts/build.sh" >&2; exit 3; }
RANDOM=$seed
echo "kill_test: at least $kills kills, seed $seed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
common=(generate -m demo -p "a red circle moves up over grass" --seed 1 --size 64x64 --steps 8 --chunk 2 --ar-step 2)
long=(--frames 41 --window 25 --overlap 9)
many=(--frames 41 --window 41 --chunk 1)  # eleven chunks, so that keys and values are compressed many times
# Name of the output, then options. libx264 reads memory that it has not set where frames are small, so that most presets give
# other bytes for the same frames from run to run; ultrafast does not.
cases=(
  "out.safetensors --policy causal ${long[*]}"
  "out.safetensors --policy none ${long[*]}"
  "out.safetensors --policy motioncache:slow,threshold=0.5,warmup=1,phase1=1 ${long[*]}"
  "out.safetensors --policy motioncache:slow,threshold=0.5,warmup=1,phase1=1 --history carry --addnoise 200 ${long[*]}"
  "out.safetensors --policy causal --checkpoint-budget 0 --addnoise 200 ${long[*]}"
  "out.safetensors --parity motioncache-ref --chunk 1 --window 17 --overlap 9 --frames 25 --addnoise 50"
  "out.mp4 --preset ultrafast --policy motioncache:slow,threshold=0.5,warmup=1,phase1=1 ${long[*]}"
  "out.mp4 --preset ultrafast --policy causal --frames 41 --window 41"
  "out.safetensors --policy driftcache:warmup=1,threshold=0.3 ${long[*]}"
  "out.safetensors --policy predict:slow,threshold=0.5,warmup=1,phase1=1 ${long[*]}"
  "out.safetensors --policy flowcache:warmup=1,threshold=0.5 ${long[*]}"
  "out.safetensors --policy teacache:ret=2,threshold=0.3 ${long[*]}"
  "out.safetensors --policy causal --kv stream:1 ${many[*]}"
  "out.safetensors --policy predict:slow,threshold=0.5,warmup=1,phase1=1 --kv r1kv:budget=1 ${many[*]}"
  "out.safetensors --policy motioncache:slow,threshold=0.5,warmup=1,phase1=1 --kv merge:d=0.2 ${many[*]}"
  "out.mp4 --preset ultrafast --policy driftcache:warmup=1,threshold=0.3 --kv r1kv:budget=1 ${many[*]}"
)

done_kills=0 runs=0 before_folder=0 resumed=0 unequal=0 failed=0
declare -A reference duration
milliseconds() { date +%s%3N; }

while [ "$done_kills" -lt "$kills" ]; do
  index=$((runs % ${#cases[@]}))
  read -ra options <<<"${cases[index]}"
  out=${options[0]}
  arguments=("${common[@]}" "${options[@]:1}" -o "$out")
  if [ -z "${reference[$index]:-}" ]; then
    mkdir "$work/reference$index" && cd "$work/reference$index"
    start=$(milliseconds)
    "$tool" "${arguments[@]}" >log 2>&1 || { cat log; exit 1; }
    duration[$index]=$(($(milliseconds) - start))
    reference[$index]=$PWD/$out
  fi
  rm -rf "$work/run" && mkdir "$work/run" && cd "$work/run"
  again=()
  # Up to four kills a run, then it may end.
  for ((k = 0; k < 4; ++k)); do
    "$tool" "${arguments[@]}" "${again[@]}" >log 2>&1 &
    child=$!
    wait_for=$((RANDOM % duration[$index]))
    sleep "$(printf '%d.%03d' $((wait_for / 1000)) $((wait_for % 1000)))"
    if kill -9 "$child" 2>/dev/null; then done_kills=$((done_kills + 1)); fi
    status=0
    wait "$child" 2>/dev/null || status=$?
    if [ "$status" -eq 0 ]; then break; fi
    if [ "$status" -ne 137 ]; then
      failed=$((failed + 1))
      echo "kill_test: case $index exited with $status: ${arguments[*]} ${again[*]}"
      tail -n 3 log
      break
    fi
    if [ -d "$out.run" ]; then resumed=$((resumed + 1)); else before_folder=$((before_folder + 1)); fi
    again=(--resume)
  done
  if ! "$tool" "${arguments[@]}" --resume >log 2>&1; then
    failed=$((failed + 1))
    echo "kill_test: case $index cannot be resumed: ${arguments[*]}"
    tail -n 3 log
    ls "$out.run"
  fi
  if ! cmp -s "$out" "${reference[$index]}"; then
    unequal=$((unequal + 1))
    echo "kill_test: case $index differs from the uninterrupted run: ${arguments[*]}"
  fi
  if [ -e "$out.run" ]; then
    failed=$((failed + 1))
    echo "kill_test: case $index leaves its run folder behind"
  fi
  runs=$((runs + 1))
done
echo "kill_test: $done_kills kills in $runs runs of ${#cases[@]} kinds; $resumed found a run folder, $before_folder came before it;" \
  "$failed failed, $unequal differ"
[ $((failed + unequal)) -eq 0 ]
