#!/usr/bin/env bash
# Fine-tunes the smaller question answering student as a reranker, as bundles/rerank was, but not to the same bytes: that
# began with the int8 weights of bundles/qa-small. On two cores that others used too, its training took 36 minutes.
set -euo pipefail

if [ $# -gt 2 ] || [ -z "${1:-${DATA:-}}" ] || [[ "${1:-}" == -* ]]; then
    echo "usage: recipes/rerank.sh DATA [OUT], or DATA=... OUT=... recipes/rerank.sh
DATA   directory with qa/*.json in SQuAD's format (bundles/rerank/README.md names the public files)
OUT    the bundle (default: runs/bundles/rerank)
WORK   environment variable: data and checkpoint (default: runs); what is finished there is not repeated
MODEL  environment variable: checkpoint or encoder to begin with (default: WORK/qa-small-student, which recipes/qa.sh
       trains first if it is not there)
TRAIN, DEV  environment variables: SQuAD JSON files of your own, with whole articles; then nothing under DATA is read" >&2
    exit 2
fi
DATA=${1:-$DATA}
OUT=${2:-${OUT:-runs/bundles/rerank}}
WORK=${WORK:-runs}
mkdir -p "$WORK"

# 1. Of every paragraph one question, in three files of a share of the paragraphs; all paragraphs stay as candidates. The
# four articles of squad2_dev are held out.
FIRST=${TRAIN:-} SECOND=${TRAIN:-}
if [ -z "${TRAIN:-}" ]; then
    python - "$DATA/qa" "$WORK" << 'EOF'
import hashlib, json, sys
from pathlib import Path

source, target = map(Path, sys.argv[1:])
digest = lambda text: hashlib.sha256(text.encode()).hexdigest()
shares = {"squad2_train": 1, "squadshifts_wiki": 1, "squad1_sentences": 0.45, "squad1_paragraphs": 0.5, "squad2_dev": 0.3}
for name, share in shares.items():
    content = json.loads((source / f"{name}.json").read_text(encoding="utf-8"))
    for article in content["data"]:
        for paragraph in article["paragraphs"]:
            answerable = [question for question in paragraph["qas"] if not question.get("is_impossible")]
            chosen = min(answerable, key=lambda question: digest(question["question"]), default=None)
            if int(digest(paragraph["context"])[:8], 16) >= share * 16**8:
                chosen = None
            for question in paragraph["qas"]:
                if question is not chosen:
                    question["is_impossible"], question["answers"] = True, []
    (target / f"{name}_part.json").write_text(json.dumps(content), encoding="utf-8")
EOF
    FIRST="$WORK/squad2_train_part.json $WORK/squadshifts_wiki_part.json $WORK/squad1_sentences_part.json"
    SECOND=$WORK/squad1_paragraphs_part.json
    DEV=${DEV:-$WORK/squad2_dev_part.json}
fi
DEV=${DEV:?names the SQuAD JSON file to measure on, where TRAIN names those to learn from}

# 2. The checkpoint to begin with.
if [ -z "${MODEL:-}" ]; then
    MODEL=$WORK/qa-small-student
    [ -e "$MODEL/training.json" ] || "$(dirname "$0")/qa.sh" "$DATA" "$WORK/bundles/qa"
fi

# 3. A question is relevant to its own paragraph, and not to another one of its article that is like it in words.
# Short texts come first, which take less time. --train is a list of files: without quotes, it is split at its spaces.
train() {
    local name=$1
    shift
    if [ -e "$WORK/$name/training.json" ]; then
        echo "$WORK/$name is finished; remove it to train it anew" >&2
    else
        halfdepth finetune --task rerank --dev "$DEV" --negatives 1 --epochs 1 --batch-size 16 --no-bf16 \
            --evaluate-every 100000 --out "$WORK/$name" "$@"
    fi
}
train rerank-short --model "$MODEL" --train $FIRST --max-length 192 --lr 1.5e-4 --warmup 0.1
train rerank-student --model "$WORK/rerank-short" --train $SECOND --max-length 256 --lr 1e-4

# 4. ONNX, int8, checks, bundle.
halfdepth export --task rerank --student "$WORK/rerank-student" --dev "$DEV" --name minilm-l3-rerank --out "$OUT"
