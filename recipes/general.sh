#!/usr/bin/env bash
# Distils a student before any task, as DistilBERT was: soft targets, masked tokens and the direction of hidden states.
# `halfdepth finetune --student OUT` continues from it.
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/general.sh DATA [OUT], or DATA=... OUT=... recipes/general.sh
DATA   directory with text/{qa_contexts,wikitext2_test,wikitext2_valid}.txt, a paragraph on each line
OUT    the student, a DistilBertForMaskedLM, and its teacher in OUT/teacher (default: runs/general)
MODEL  environment variable: encoder to distil (default: sentence-transformers/all-MiniLM-L6-v2)" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/general}}
MODEL=${MODEL:-sentence-transformers/all-MiniLM-L6-v2}

# A sentence encoder has no head for masked tokens, so it gets one first (--train-mlm-head).
halfdepth pretrain --teacher "$MODEL" --train-mlm-head --layers 3 \
    --train "$DATA"/text/{qa_contexts,wikitext2_test}.txt --dev "$DATA/text/wikitext2_valid.txt" \
    --epochs 1 --out "$OUT"
