#!/usr/bin/env bash
# Distils a classifier of positive and negative texts from a 12-layer teacher: these commands built bundles/classify.
# On an H200, beside other training, the teacher takes two minutes and the student three.
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/classify.sh DATA [OUT], or DATA=... OUT=... recipes/classify.sh
DATA   directory with classify/*.tsv and text/imdb_unsup.txt (bundles/classify/README.md names the sources)
OUT    the bundle (default: runs/bundles/classify)
WORK   environment variable: checkpoints of teacher and student (default: runs); what is finished there is not repeated
MODEL  environment variable: encoder that the student is cut from (default: sentence-transformers/all-MiniLM-L6-v2)
TEACHER  environment variable: encoder of the teacher, of the same vocabulary or one that maps onto it
       (default: sentence-transformers/all-mpnet-base-v2)
TRAIN, DEV  environment variables: TSV with text and label of your own; then nothing of SST-2 and IMDb is read" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/bundles/classify}}
WORK=${WORK:-runs}
MODEL=${MODEL:-sentence-transformers/all-MiniLM-L6-v2}
TEACHER=${TEACHER:-sentence-transformers/all-mpnet-base-v2}
DEV=${DEV:-$DATA/classify/sst2_dev.tsv}
[[ ${TEACHER,,} == *mpnet* ]] && ONE_SEPARATOR=--one-separator  # which puts two between two texts
mkdir -p "$WORK"

# 1. Of IMDb the 2,000 reviews with the smallest SHA-256 are held out, to measure long texts (imdb_dev.tsv); 10,000 of
# its unlabelled reviews are labelled by the teacher alone.
UNLABELLED=()
if [ -z "${TRAIN:-}" ]; then
    python - "$DATA/classify/imdb_train.tsv" "$WORK" << 'EOF'
import csv, hashlib, sys
from pathlib import Path

csv.field_size_limit(sys.maxsize)
with open(sys.argv[1], newline="", encoding="utf-8") as file:
    header, *rows = csv.reader(file, delimiter="\t", strict=True)
text = header.index("text")
rows.sort(key=lambda row: hashlib.sha256(row[text].encode()).hexdigest())
count = min(2000, len(rows) // 2)
for name, part in (("imdb_dev", rows[:count]), ("imdb_train", rows[count:])):
    with (Path(sys.argv[2]) / f"{name}.tsv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t", lineterminator="\n").writerows([header, *part])
EOF
    head -n 10000 "$DATA/text/imdb_unsup.txt" > "$WORK/imdb_unsup_part.txt"
    TRAIN="$DATA/classify/sst2_phrases_train.tsv $DATA/classify/sst2_train.tsv $DATA/classify/uci_sentences.tsv
        $WORK/imdb_train.tsv"
    UNLABELLED=(--unlabelled "$WORK/imdb_train.tsv" --unlabelled-texts "$WORK/imdb_unsup_part.txt")
fi

# TRAIN is a list of files: without quotes, it is split at its spaces.
train() {
    local name=$1
    shift
    if [ -e "$WORK/$name/training.json" ]; then
        echo "$WORK/$name is finished; remove it to train it anew" >&2
    else
        halfdepth finetune --task classify --train $TRAIN --dev "$DEV" --patience 1000 --out "$WORK/$name" "$@"
    fi
}

# 2. A teacher, and a student that learns its labels of all the texts.
train classify-teacher --model "$TEACHER" ${ONE_SEPARATOR:-} --dropout 0.1 \
    --epochs 1 --batch-size 64 --lr 3e-5 --evaluate-every 1200
train classify-student --teacher "$WORK/classify-teacher" --student-from "$MODEL" --layers 3 \
    --cache-teacher "$WORK/cache" "${UNLABELLED[@]}" --epochs 4 --batch-size 512 --lr 6e-4 --hard 0.3 --soft 0.7 \
    --no-freeze-embeddings --evaluate-every 800

# 3. ONNX, int8, checks, bundle.
halfdepth export --task classify --student "$WORK/classify-student" --dev "$DEV" --name minilm-l3-classify --out "$OUT"
