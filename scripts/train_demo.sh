#!/usr/bin/env bash
# Trains the demo model from nothing and writes it to share/models/demo; see docs/demo-model.md.
#
#   scripts/train_demo.sh cuda    one GPU, about 16 minutes on an H100 with 16 CPU cores
#   scripts/train_demo.sh cpu     a smaller transformer on two CPU cores, about an hour
# A run that was interrupted goes on from build/train_demo; remove that folder to begin anew.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:?usage: scripts/train_demo.sh cpu|cuda}
case $device in
  cpu)
    vae=(--minutes 20 --batch 2 --rate 3e-3)
    dit=(--minutes 35 --dim 128 --layers 4 --batch 12 --one 0.6 --two 0.28 --five 0.12 --rate 2e-3) ;;
  cuda)
    vae=(--minutes 4.5 --batch 24 --crop 128 --frames 17 --rate 2e-3)
    dit=(--minutes 9.3 --dim 256 --layers 6 --batch 160 --pool 8000 --one 0.2 --two 0.2 --five 0.6 --rate 1.5e-3 --average 0.999 --bf16 1) ;;
  *) echo "train_demo: '$device' is neither cpu nor cuda" >&2; exit 2 ;;
esac
cmake --preset train
cmake --build --preset train --target longtake_train
tool=build/train/tools/train/longtake_train
work=build/train_demo
"$tool" vae --out "$work" --device "$device" "${vae[@]}"
"$tool" dit --out "$work" --device "$device" "${dit[@]}"
"$tool" export --out "$work" --model share/models/demo
"$tool" plot --out "$work" --picture docs/images/demo-loss.svg
echo "train_demo: done; configs/demo.yaml names the sizes of the transformer" >&2
