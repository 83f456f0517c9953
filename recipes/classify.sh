#!/usr/bin/env bash
# Distils a classifier of positive and negative texts from all-MiniLM-L6-v2: these commands built bundles/classify.
# On two cores, beside other work: 9 and 15 minutes for the teachers, 59, 28 and 37 for the student's three runs.
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/classify.sh DATA [OUT], or DATA=... OUT=... recipes/classify.sh
DATA   directory with classify/*.tsv and qa/squadshifts_amazon.json (bundles/classify/README.md names the sources)
OUT    the bundle (default: runs/bundles/classify)
WORK   environment variable: checkpoints of teachers and student (default: runs)
MODEL  environment variable: encoder to begin with (default: sentence-transformers/all-MiniLM-L6-v2)" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/bundles/classify}}
WORK=${WORK:-runs}
MODEL=${MODEL:-sentence-transformers/all-MiniLM-L6-v2}
SST2=$DATA/classify/sst2_train.tsv
DEV=$DATA/classify/sst2_dev.tsv
REVIEWS=$DATA/classify/movie_reviews_train.tsv
AMAZON=$DATA/qa/squadshifts_amazon.json
mkdir -p "$WORK"

# 1. Two teachers.
halfdepth finetune --task classify --model "$MODEL" --train "$SST2" --dev "$DEV" --epochs 4 --lr 1e-4 --dropout 0.1 \
    --evaluate-every 433 --patience 100 --out "$WORK/classify-teacher"
halfdepth finetune --task classify --model "$MODEL" --train "$SST2" --dev "$DEV" --epochs 5 --lr 5e-5 --dropout 0.1 \
    --batch-size 32 --evaluate-every 217 --patience 100 --no-freeze-embeddings --out "$WORK/classify-teacher-2"

# 2. A student of half their depth, in three runs. The first two of bundles/classify were made before reviews were split
# into sentences, and read the reviews in windows.
halfdepth finetune --task classify --teacher "$WORK/classify-teacher" --layers 3 \
    --train "$SST2" "$SST2" "$SST2" "$SST2" "$SST2" "$SST2" --unlabelled "$REVIEWS" "$AMAZON" "$AMAZON" \
    --dev "$DEV" --max-length 128 --batch-size 32 --lr 3e-4 --evaluate-every 500 --patience 100 \
    --no-freeze-embeddings --out "$WORK/classify-halfway"
halfdepth finetune --task classify --teacher "$WORK/classify-teacher" --student "$WORK/classify-halfway" \
    --train "$SST2" "$SST2" --unlabelled "$REVIEWS" "$AMAZON" \
    --dev "$DEV" --max-length 64 --batch-size 32 --lr 1.5e-4 --evaluate-every 300 --patience 100 \
    --relation 0 --no-freeze-embeddings --out "$WORK/classify-halfway-2"
# The labelled sentences, cut into phrases that only the teachers label.
cut -f1 "$SST2" | tail -n +2 | sed -E 's/ (,|;|:|--|-|\.\.\.) /\n/g' |
    sed -E 's/ (but|and|with|that|which|while|as|because) /\n\1 /g' | awk 'NF > 2' |
    LC_ALL=C sort -u > "$WORK/sst2_phrases.txt"
halfdepth finetune --task classify --teacher "$WORK/classify-teacher" "$WORK/classify-teacher-2" \
    --student "$WORK/classify-halfway-2" --train "$SST2" --unlabelled "$REVIEWS" "$WORK/sst2_phrases.txt" \
    --dev "$DEV" --epochs 3.7 --max-length 64 --batch-size 64 --lr 3e-4 --ema 0.999 --hard 0.1 --soft 0.9 \
    --relation 0 --no-freeze-embeddings --evaluate-every 400 --patience 1 --out "$WORK/classify-student"

# 3. ONNX, int8, checks, bundle.
halfdepth export --task classify --student "$WORK/classify-student" --teacher "$WORK/classify-teacher" \
    --dev "$DEV" --max-metric-drop 1.0 --name minilm-l3-classify --out "$OUT"
