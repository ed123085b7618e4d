#!/usr/bin/env bash
# Trains the demo model from nothing and writes it to models/demo/weights; see docs/demo-model.md.
#
#   scripts/train_demo.sh cuda    the full stack on one GPU, about 12 minutes
#   scripts/train_demo.sh cpu     the small stack on one CPU core
# A run that was interrupted goes on from build/train_demo; remove that folder to begin anew.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:?usage: scripts/train_demo.sh cpu|cuda}
case $device in
  cpu)
    preset=cpu
    vae=(--minutes 19 --batch 2 --rate 3e-3 --threads 1)
    dit=(--minutes 28 --one 0.6 --two 0.28 --five 0.12 --threads 1) ;;
  cuda)
    preset=train
    vae=(--minutes 4 --batch 32 --crop 96 --frames 17)
    dit=(--minutes 8 --dim 256 --layers 6 --batch 160 --one 0.2 --two 0.2 --five 0.6 --rate 1e-3 --average 0.999 --bf16 1) ;;
  *) echo "train_demo: '$device' is neither cpu nor cuda" >&2; exit 2 ;;
esac
cmake --preset "$preset" -DLONGTAKE_TRAIN=ON
cmake --build --preset "$preset" --target longtake_train
tool=build/$preset/tools/train/longtake_train
work=build/train_demo
"$tool" vae --out "$work" --device "$device" "${vae[@]}"
"$tool" dit --out "$work" --device "$device" "${dit[@]}"
"$tool" export --out "$work" --model models/demo/weights
"$tool" plot --out "$work" --picture docs/images/demo-loss.svg
"$tool" sample --out "$work" --device "$device" --model models/demo/weights --count 20
