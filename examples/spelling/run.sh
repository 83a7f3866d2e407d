#!/usr/bin/env bash
# Makes the data, trains on words, fine-tunes on pairs, and measures.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=${PYTHON:-.venv/bin/python} runs=${RUNS:-runs/spelling}

$python -m examples.spelling.make_pairs --out="$runs/data"

$python train.py --preset=shakespeare-char --dataset="$runs/data/words.txt" \
  --val_fraction=0.02 --context_length=79 --n_layers=3 --init_std=0.05 \
  --batch_size=32 --steps=250 --min_learning_rate=1e-3 --steps_per_call=10 \
  --eval_every=0 --workdir="$runs/words"

$python train.py --init_from="$runs/words" --dataset="$runs/data/train.jsonl" \
  --val_fraction=0.01 --batch_size=64 --steps=450 --learning_rate=3e-3 \
  --min_learning_rate=1e-4 --steps_per_call=10 --workdir="$runs/model"

for pairs in test unknown; do
  $python -m minigpt evaluate --workdir="$runs/model" --task=pairs \
    --dataset="$runs/data/$pairs.jsonl"
done
$python -m examples.spelling.compare --workdir="$runs/model"
