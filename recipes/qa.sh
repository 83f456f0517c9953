#!/usr/bin/env bash
# Distils a question answering model from all-MiniLM-L6-v2: these commands built bundles/qa.
# On an H100 the teacher takes 88 seconds and the student four minutes.
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/qa.sh DATA [OUT], or DATA=... OUT=... recipes/qa.sh
DATA   directory with qa/*.json in SQuAD's format (bundles/qa/README.md names the public files behind bundles/qa)
OUT    the bundle (default: runs/bundles/qa)
WORK   environment variable: checkpoints of teacher and student (default: runs)
MODEL  environment variable: encoder to begin with (default: sentence-transformers/all-MiniLM-L6-v2)
TRAIN, DEV  environment variables: SQuAD JSON files of your own instead of those under DATA" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/bundles/qa}}
WORK=${WORK:-runs}
MODEL=${MODEL:-sentence-transformers/all-MiniLM-L6-v2}
TRAIN=${TRAIN:-$DATA/qa/squadshifts_wiki.json $DATA/qa/squadshifts_amazon.json $DATA/qa/squadshifts_reddit.json
    $DATA/qa/qamr.json $DATA/qa/squad2_train.json $DATA/qa/squad2_train.json $DATA/qa/squad2_train.json}
DEV=${DEV:-$DATA/qa/squad2_dev.json}

# 1. A teacher: the encoder, fine-tuned. TRAIN is a list of files: without quotes, it is split at its spaces.
halfdepth finetune --task qa --model "$MODEL" --train $TRAIN --dev "$DEV" \
    --batch-size 64 --lr 2.5e-4 --epochs 2 --dropout 0.1 --evaluate-every 100000 --out "$WORK/qa-teacher"

# 2. A student of half its depth.
halfdepth finetune --task qa --teacher "$WORK/qa-teacher" --layers 3 --train $TRAIN --dev "$DEV" \
    --moved-questions 0.05 --batch-size 96 --lr 5e-4 --epochs 6.8 --evaluate-every 100000 --out "$WORK/qa-student"

# 3. ONNX, int8, checks, bundle.
halfdepth export --task qa --student "$WORK/qa-student" --teacher "$WORK/qa-teacher" --dev "$DEV" \
    --keep-float layer.0/attention/out_lin --name minilm-l3-qa --out "$OUT"
