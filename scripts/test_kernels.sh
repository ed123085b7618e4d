#!/usr/bin/env bash
# Tests and times the CUDA kernels, also on a machine that has a GPU and PyTorch but neither a compiler nor the libraries we link.
#
#   scripts/test_kernels.sh pack [BUILD [FOLDER]]   copies the programs of a CUDA build (default build/cuda) and their libraries,
#                                                   LibTorch's left out, into FOLDER (default build/kernels)
#   scripts/test_kernels.sh run [FOLDER [bench_kernels arguments]]   runs them, with the LibTorch of python3's torch package
#
# LONGTAKE_GOLDEN, where set, adds the golden test of the transformer.
set -euo pipefail
cd "$(dirname "$0")/.."
command=${1:-}
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
    torch=$(python3 -c "import os, torch; print(os.path.dirname(torch.__file__))")
    export LD_LIBRARY_PATH=$folder/lib:$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
    failed=0
    for program in test_attention test_quant test_models_fused; do
      echo "== $program"
      "$folder/$program" || failed=1
    done
    echo "== test_models" && { "$folder/test_models" "*subset*,*several chunks*" || failed=1; }
    if [ -n "${LONGTAKE_GOLDEN:-}" ]; then
      echo "== test_golden" && { "$folder/test_golden" "transformer*" || failed=1; }
    fi
    echo "== bench_kernels" && { "$folder/bench_kernels" "$@" || failed=1; }
    [ "$failed" -eq 0 ] || { echo "test_kernels: something failed, see above" >&2; exit 1; }
    ;;
  *) sed -n '2,8p' "$0" >&2; exit 2 ;;
esac
