#!/usr/bin/env bash
# Distils a sentence encoder from all-MiniLM-L6-v2: these commands built bundles/similarity.
# On two cores, beside other work: 18 minutes for the first step, 31 for the second.
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/similarity.sh DATA [OUT], or DATA=... OUT=... recipes/similarity.sh
DATA   directory with text, qa, similarity and classify (bundles/similarity/README.md names the files and their sources)
OUT    the bundle (default: runs/bundles/similarity)
WORK   environment variable: the student's checkpoints (default: runs); what is finished there is not repeated
MODEL  environment variable: sentence encoder to distil (default: sentence-transformers/all-MiniLM-L6-v2)" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/bundles/similarity}}
WORK=${WORK:-runs}
MODEL=${MODEL:-sentence-transformers/all-MiniLM-L6-v2}
DEV=$DATA/similarity/stsb_dev.tsv

train() {
    local name=$1
    shift
    if [ -e "$WORK/$name/training.json" ]; then
        echo "$WORK/$name is finished; remove it to train it anew" >&2
    else
        halfdepth finetune --task similarity --teacher "$MODEL" --dev "$DEV" --max-length 256 --batch-size 32 \
            --patience 100 --out "$WORK/$name" "$@"
    fi
}

# 1. A student of half the encoder's depth, which learns the encoder's embeddings of any text.
train similarity-student --layers 3 \
    --train "$DATA"/text/{qa_contexts,wikitext2_valid,wikitext2_test}.txt \
    "$DATA"/qa/squadshifts_{wiki,amazon,reddit}.json "$DATA"/qa/{qamr,squad2_train}.json \
    "$DATA/similarity/stsb_train.tsv" "$DATA"/classify/{sst2_train,trec_train}.tsv \
    --lr 3e-4 --epochs 2 --evaluate-every 1000

# 2. It goes on with pairs of sentences whose scores its cosines follow, beside the encoder's embeddings.
train similarity-pairs --student "$WORK/similarity-student" \
    --train "$DATA/similarity/stsb_train.tsv" "$DATA/classify/sst2_train.tsv" \
    --pairs "$DATA"/similarity/{stsb_train,sts12_16_rest}.tsv --lr 1e-4 --epochs 1 --evaluate-every 400 --no-bf16

# 3. ONNX with pooling inside, int8, checks, bundle.
halfdepth export --task similarity --student "$WORK/similarity-pairs" --dev "$DEV" --name minilm-l3-similarity \
    --sentences "$DATA/similarity/stsb_train.tsv" --out "$OUT"
