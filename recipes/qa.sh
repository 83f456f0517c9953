#!/usr/bin/env bash
# Distils two question answering models from a 12-layer teacher: these commands built bundles/qa and bundles/qa-small.
# On an H200 all of it takes some 15 minutes; the bundles' own teacher was stopped halfway (docs/log/training.md).
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/qa.sh DATA [OUT], or DATA=... OUT=... recipes/qa.sh
DATA   directory with qa/*.json in SQuAD's format (bundles/qa/README.md names the public files behind bundles/qa)
OUT    the bundle of the larger student (default: runs/bundles/qa); that of the smaller is OUT-small
WORK   environment variable: checkpoints of teacher and students (default: runs); what is finished there is not repeated
MODEL  environment variable: encoder that the students are cut from (default: sentence-transformers/all-MiniLM-L6-v2)
TEACHER  environment variable: encoder of the teacher, of the same vocabulary or one that maps onto it
       (default: sentence-transformers/all-mpnet-base-v2)
LAYERS, SMALL_LAYERS  environment variables: layers of the students (default: 6 and 3)
TRAIN, DEV  environment variables: SQuAD JSON files of your own instead of those under DATA" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/bundles/qa}}
WORK=${WORK:-runs}
MODEL=${MODEL:-sentence-transformers/all-MiniLM-L6-v2}
TEACHER=${TEACHER:-sentence-transformers/all-mpnet-base-v2}
LAYERS=${LAYERS:-6}
SMALL_LAYERS=${SMALL_LAYERS:-3}
SQUAD2="$DATA/qa/squad2_train.json $DATA/qa/squad2_unanswerable.json"
TRAIN=${TRAIN:-$DATA/qa/squadshifts_wiki.json $DATA/qa/squadshifts_amazon.json $DATA/qa/squadshifts_reddit.json
    $DATA/qa/qamr.json $DATA/qa/squad1_paragraphs.json $DATA/qa/squad1_sentences.json $DATA/qa/tydiqa_en_train.json
    $DATA/qa/mlqa_dev_en.json $DATA/qa/nq_qed.json $DATA/qa/nq_open_gold.json $DATA/qa/fairytaleqa.json
    $SQUAD2 $SQUAD2 $SQUAD2}
DEV=${DEV:-$DATA/qa/squad2_dev.json}
[[ ${TEACHER,,} == *mpnet* ]] && ONE_SEPARATOR=--one-separator  # which puts two between question and passage

# TRAIN is a list of files: without quotes, it is split at its spaces.
train() {
    local name=$1
    shift
    if [ -e "$WORK/$name/training.json" ]; then
        echo "$WORK/$name is finished; remove it to train it anew" >&2
    else
        halfdepth finetune --task qa --train $TRAIN --dev "$DEV" --patience 1000 --out "$WORK/$name" "$@"
    fi
}

# 1. The students' encoder learns the task from the labels, the teacher beside it.
train qa-hard --model "$MODEL" --dropout 0.1 \
    --moved-questions 0.1 --swapped-questions 0.3 --cropped 0.3 --joined 0.04 --removed 0.02 \
    --epochs 2 --batch-size 128 --lr 3e-4 --evaluate-every 100000
train qa-teacher --model "$TEACHER" ${ONE_SEPARATOR:-} --dropout 0.1 \
    --moved-questions 0.1 --swapped-questions 0.3 --joined 0.05 --removed 0.025 \
    --epochs 2 --batch-size 64 --lr 4e-5 --evaluate-every 2500

# 2. Students: the larger is cut from that encoder, the smaller from the larger. The teacher is asked once, for both.
MORE="--moved-questions 0.2 --swapped-questions 0.6 --cropped 0.5 --joined 0.06 --removed 0.03"
train qa-student --teacher "$WORK/qa-teacher" --student-from "$WORK/qa-hard" --layers "$LAYERS" \
    --cache-teacher "$WORK/cache" $MORE --epochs 6 --batch-size 256 --lr 5e-4 --hard 0.2 --soft 0.8
train qa-small-student --teacher "$WORK/qa-teacher" --student-from "$WORK/qa-student" --layers "$SMALL_LAYERS" \
    --cache-teacher "$WORK/cache" $MORE --epochs 6 --batch-size 256 --lr 8e-4 --hard 0.2 --soft 0.8

# 3. When they abstain; ONNX, int8, checks, bundles.
calibrate() {
    python -m models.finetune.abstaining.calibrate --checkpoint "$WORK/$1" --dev "$DEV" --by-tokens "${@:2}"
}
calibrate qa-student 128=-1.0 256=0.8
calibrate qa-small-student 200=-1.2 400=0
halfdepth export --task qa --student "$WORK/qa-student" --dev "$DEV" --name "minilm-l$LAYERS-qa" --out "$OUT"
halfdepth export --task qa --student "$WORK/qa-small-student" --dev "$DEV" \
    --keep-float layer.0/ffn --name "minilm-l$SMALL_LAYERS-qa" --out "$OUT-small"
