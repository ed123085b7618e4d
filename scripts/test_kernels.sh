#!/usr/bin/env bash
# Tests and times the CUDA kernels, also on a machine that has a GPU and PyTorch but neither a compiler nor the libraries we link.
#
#   scripts/test_kernels.sh pack [BUILD [FOLDER]]   copies the programs of a CUDA build (default build/cuda) and their libraries,
#                                                   LibTorch's left out, into FOLDER (default build/kernels)
#   scripts/test_kernels.sh run [FOLDER [bench_kernels arguments]]   runs them, with the LibTorch of python3's torch package
#   scripts/test_kernels.sh sanitize [FOLDER]                       the tests under compute-sanitizer ($COMPUTE_SANITIZER, or that of PATH or
#                                                                   /usr/local/cuda): memcheck, and racecheck of our own kernels
#
# LONGTAKE_GOLDEN, where set, adds the golden test of the transformer.
set -euo pipefail
cd "$(dirname "$0")/.."
command=${1:-}

# The tests that launch our kernels; after the second bar those that launch no product of cuBLAS, whose kernels racecheck reports or fails
# inside; after the third `ours` where memcheck looks at our kernels alone, because all of a row's take a quarter of an hour.
# Patterns of Catch2; a star alone is the whole program.
tests=(
  'test_attention|*|qkv_rows*,rms_rows*,*launch that it is part of*,flash attention reads*'
  'test_quant|*|rows are rounded*,rows of zeros*,what is not finite*,gelu and rounding*'
  'test_models_fused|*norm*,swiglu*|normalize_rows*,add_and_normalize*,the VAE*,norm_rows*,add_gated*,norm_heads normalises*,swiglu multiplies*'
  'test_models_fused|~"*norm*"~"swiglu*"~"*fp8*"|*result does not depend on the rows beside it|ours'
  'test_models_fused|"*fp8*"~"*norm*"||ours'
  'test_models|*subset*,*several chunks*||ours'
  'test_cache|merging rows*,motion of packed frames*|merging rows*,motion of packed frames*'
  'test_runtime|guidance and the steps*|guidance and the steps*'
)

# Every pattern must still name a test. (Catch2 counts them in its exit status, too.)
check_names() {
  local entry program all own pattern IFS=$'\n'
  set -f
  for entry in "${tests[@]}"; do
    IFS='|' read -r program all own _ <<<"$entry"
    for pattern in ${all//,/$IFS} ${own//,/$IFS}; do
      [[ $("$folder/$program" --list-tests "$pattern" || true) =~ (^|$'\n')[1-9][0-9]*" matching test case" ]] ||
        { echo "test_kernels: no test of $program is called '$pattern'; correct the list in $0" >&2; exit 3; }
    done
  done
  set +f
}

# The LibTorch that the programs were packed without.
find_torch() {
  torch=$(python3 -c "import os, torch; print(os.path.dirname(torch.__file__))")
  export LD_LIBRARY_PATH=$folder/lib:$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
}

failed=0
attempt() {
  echo "== $*"
  "$@" || failed=1
}

case $command in
  pack)
    build=${2:-build/cuda} folder=${3:-build/kernels}
    mkdir -p "$folder/lib"
    for program in tests/test_attention tests/test_quant tests/test_cache tests/test_runtime tests/test_models_fused tests/test_models tests/test_golden tools/kernels/bench_kernels apps/longtake; do
      [ -x "$build/$program" ] || { echo "test_kernels: $build/$program is not built; configure with -DLONGTAKE_CUDA=ON" >&2; exit 3; }
      strip -o "$folder/$(basename "$program")" "$build/$program"
      ldd "$build/$program" | awk '$2 == "=>" && $1 ~ /^lib(fmt|spdlog|yaml-cpp|sentencepiece)/ { print $3 }' |
        xargs -r cp -Lt "$folder/lib"
    done
    du -sh "$folder" >&2
    ;;
  run)
    folder=${2:-build/kernels}
    shift $(($# < 2 ? $# : 2))
    find_torch
    check_names
    for entry in "${tests[@]}"; do
      IFS='|' read -r program all _ <<<"$entry"
      attempt "$folder/$program" "$all"
    done
    [ -z "${LONGTAKE_GOLDEN:-}" ] || attempt "$folder/test_golden" "transformer*"
    attempt "$folder/bench_kernels" "$@"
    [ "$failed" -eq 0 ] || { echo "test_kernels: something failed, see above" >&2; exit 1; }
    ;;
  sanitize)
    folder=${2:-build/kernels}
    find_torch
    check_names
    sanitizer=${COMPUTE_SANITIZER:-$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)}
    "$sanitizer" --version >/dev/null || { echo "test_kernels: compute-sanitizer does not run; set COMPUTE_SANITIZER to it" >&2; exit 3; }
    # PyTorch's memory pool would hide what lies beyond a tensor.
    export PYTORCH_NO_CUDA_MEMORY_CACHING=1
    # All at once, because most of their time is the host's; each one's output is shown when it has ended.
    logs=$(mktemp -d)
    jobs=() titles=()
    trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$logs"' EXIT
    check() {
      titles+=("$*")
      "$sanitizer" --error-exitcode 9 --tool "$@" >"$logs/${#jobs[@]}" 2>&1 &
      jobs+=($!)
    }
    for entry in "${tests[@]}"; do
      IFS='|' read -r program all own memory <<<"$entry"
      # (Kernels whose name contains longtake.)
      check memcheck ${memory:+--kernel-name kns=longtake} "$folder/$program" "$all"
      [ -z "$own" ] || check racecheck --kernel-name kns=longtake "$folder/$program" "$own"
    done
    for i in "${!jobs[@]}"; do
      wait "${jobs[i]}" || failed=1
      echo "== ${titles[i]}"
      cat "$logs/$i"
    done
    [ "$failed" -eq 0 ] || { echo "test_kernels: something failed, see above" >&2; exit 1; }
    ;;
  *) sed -n '2,10p' "$0" >&2; exit 2 ;;
esac
