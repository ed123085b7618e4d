#!/usr/bin/env bash
# Fuzzes one reader of untrusted files (docs/fuzzing.md), with little priority; what it finds is written beside the new inputs.
#
#   scripts/fuzz.sh TARGET [EXECUTIONS [SECONDS]]     default: a million, without end
#
# New inputs are kept in build/fuzz/corpus/TARGET and taken up by the next run. Build with cmake --preset fuzz first.
set -euo pipefail
cd "$(dirname "$0")/.."
target=${1:?name a target: batch image npz pickle plan recipe run safetensors state text vbench video}
program=build/fuzz/tests/fuzz/fuzz_$target
[ -x "$program" ] || { echo "fuzz: $program is not built" >&2; exit 3; }
found=build/fuzz/corpus/$target
mkdir -p "$found"
arguments=(-runs="${2:-1000000}" -max_total_time="${3:-0}" -max_len=4096 -timeout=25 -rss_limit_mb=4096 -print_final_stats=1
  -artifact_prefix="$found-")
[ ! -f "tests/fuzz/$target.dict" ] || arguments+=(-dict="tests/fuzz/$target.dict")
seeds=("tests/fuzz/corpus/$target")
case $target in
  pickle | vbench) seeds+=("tests/data/$target") ;;
  recipe) seeds+=(configs) ;;
esac
# libFuzzer weighs rare features anew for every input, which for readers with many branches costs as much as they do.
[ "$target" != run ] || arguments+=(-entropic=0)
# Symbolizing would start a process for every stack, and unwinding one for every allocation takes a tenth of the time; without either a
# finding is still reproduced from its file. A few megabytes of freed memory kept from reuse are more than an input frees.
export ASAN_OPTIONS=symbolize=0:malloc_context_size=0:quarantine_size_mb=16:allocator_release_to_os_interval_ms=-1
exec nice -n 19 "$program" "${arguments[@]}" "$found" "${seeds[@]}"
