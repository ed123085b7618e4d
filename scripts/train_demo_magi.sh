#!/usr/bin/env bash
# Trains the MAGI-1 demo models on the latents and texts of the demo model, whose VAE, text encoder and tokenizer they share:
# share/models/demo-magi (base) and share/models/demo-magi-distill, with their recipes in configs/. See docs/demo-model.md.
#
#   scripts/train_demo_magi.sh cuda    one GPU, about 10 minutes on an H200 with 16 CPU cores
#   scripts/train_demo_magi.sh cpu     a smaller transformer on two CPU cores, about an hour; models in build/train_demo_magi/models
# A run that was interrupted goes on from build/train_demo_magi; remove that folder to begin anew.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${1:?usage: scripts/train_demo_magi.sh cpu|cuda}
work=build/train_demo_magi demo=share/models/demo
case $device in
  cpu)
    base=(--minutes 40 --dim 128 --layers 4 --batch 12 --pool 500 --rate 2e-3)
    distilled=(--minutes 15 --batch 12 --pool 500 --rate 5e-4)
    place=(--demo "$demo")
    models=$work/models configs= ;;
  cuda)
    base=(--minutes 6.5 --dim 256 --layers 4 --batch 160 --pool 4000 --one 0.2 --two 0.2 --five 0.6 --average 0.999 --bf16 1)
    distilled=(--minutes 2.5 --batch 160 --pool 2000 --one 0.2 --two 0.2 --five 0.6 --rate 5e-4 --average 0.998 --bf16 1)
    place=(--shared ../demo)
    models=share/models configs=configs ;;
  *) echo "train_demo_magi: '$device' is neither cpu nor cuda" >&2; exit 2 ;;
esac
cmake --preset train
cmake --build --preset train --target longtake_train
tool=build/train/tools/train/longtake_train
"$tool" magi --out "$work" --demo "$demo" --device "$device" "${base[@]}"
"$tool" magi --out "$work" --demo "$demo" --device "$device" --distilled 1 "${distilled[@]}"
for distilled in 0 1; do
  name=demo-magi$([ "$distilled" = 0 ] || echo -distill)
  "$tool" export-magi --out "$work" --distilled "$distilled" --model "$models/$name" "${place[@]}" ${configs:+--recipe "$configs/$name.yaml"}
done
echo "train_demo_magi: done" >&2
