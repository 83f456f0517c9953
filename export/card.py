"""Writes the model card (README.md of a bundle): what it is, how good, of which data, how to load it."""

from pathlib import Path

from models.finetune.recipes import RECIPES
from models.tasks.base import AnyTask
from models.tasks.bundle import FP32_MODEL, INT8_MODEL
from models.tasks.manifest import DataRecord, Manifest, Metrics, ModelRecord, TeacherRecord

INT8_LIMIT = (
    "Dynamic int8: outputs change slightly with padding, with the other inputs of a batch and with the CPU. The "
    "figures\n  hold for one unpadded window at a time."
)

# Source and licence of the public files that the default bundles are trained on, by file name.
PUBLIC_DATA = {
    "squadshifts_wiki.json": ("SQuADShifts, new Wikipedia (Miller et al. 2020)", "CC BY 4.0"),
    "squadshifts_amazon.json": ("SQuADShifts, Amazon reviews (Miller et al. 2020)", "CC BY 4.0"),
    "squadshifts_reddit.json": ("SQuADShifts, Reddit (Miller et al. 2020)", "CC BY 4.0"),
    "qamr.json": ("QAMR, dev and test (Michael et al. 2018)", "MIT"),
    "squad2_train.json": ("part of SQuAD 2.0 dev (Rajpurkar et al. 2018)", "CC BY-SA 4.0"),
    "squad2_dev.json": ("part of SQuAD 2.0 dev (Rajpurkar et al. 2018)", "CC BY-SA 4.0"),
    "squad1_paragraphs.json": ("part of SQuAD 1.1 train (Rajpurkar et al. 2016)", "CC BY-SA 4.0"),
    "squad1_sentences.json": ("part of SQuAD 1.1 train (Rajpurkar et al. 2016)", "CC BY-SA 4.0"),
    "squad2_unanswerable.json": ("unanswerable questions of SQuAD 2.0 train (Rajpurkar et al. 2018)", "CC BY-SA 4.0"),
    "tydiqa_en_train.json": ("TyDi QA, gold passages, English train (Clark et al. 2020)", "Apache 2.0"),
    "mlqa_dev_en.json": ("MLQA, English dev (Lewis et al. 2020)", "CC BY-SA 3.0"),
    "nq_qed.json": ("Natural Questions with the offsets of QED (Lamm et al. 2020)", "CC BY-SA 3.0"),
    "nq_open_gold.json": ("Natural Questions, dev, gold passages (Kwiatkowski et al. 2019)", "CC BY-SA 3.0"),
    "fairytaleqa.json": ("FairytaleQA, explicit questions (Xu et al. 2022)", "Apache 2.0"),
    "squadshifts_wiki_part.json": (
        "SQuADShifts, new Wikipedia, one question of a paragraph (Miller et al. 2020)",
        "CC BY 4.0",
    ),
    "squad2_train_part.json": (
        "part of SQuAD 2.0 dev, one question of a paragraph (Rajpurkar et al. 2018)",
        "CC BY-SA 4.0",
    ),
    "squad2_dev_part.json": (
        "part of SQuAD 2.0 dev, one question of a paragraph (Rajpurkar et al. 2018)",
        "CC BY-SA 4.0",
    ),
    "squad1_paragraphs_part.json": (
        "part of SQuAD 1.1 train, one question of a paragraph (Rajpurkar et al. 2016)",
        "CC BY-SA 4.0",
    ),
    "squad1_sentences_part.json": (
        "part of SQuAD 1.1 train, one question of a text (Rajpurkar et al. 2016)",
        "CC BY-SA 4.0",
    ),
    "sst2_train.tsv": ("SST-2, sentences (Socher et al. 2013)", "research use"),
    "sst2_phrases.txt": ("SST-2, sentences of its train split cut into phrases (Socher et al. 2013)", "research use"),
    "sst2_dev.tsv": ("SST-2, sentences (Socher et al. 2013)", "research use"),
    "sst2_phrases_train.tsv": ("SST-2, phrases of its train split, as in GLUE (Socher et al. 2013)", "research use"),
    "imdb_train.tsv": ("IMDb reviews, train, without 2,000 that were held out (Maas et al. 2011)", "research use"),
    "imdb_dev.tsv": ("IMDb reviews, the 2,000 of train that were held out (Maas et al. 2011)", "research use"),
    "imdb_unsup_part.txt": ("IMDb, 10,000 unlabelled reviews (Maas et al. 2011)", "research use"),
    "uci_sentences.tsv": ("sentences of Amazon, IMDb and Yelp reviews (Kotzias et al. 2015)", "CC BY 4.0"),
    "trec_train.tsv": ("TREC question classification (Li and Roth 2002)", "research use"),
    "movie_reviews_train.tsv": ("polarity dataset 2.0 (Pang and Lee 2004)", "research use"),
    "movie_reviews_dev.tsv": ("polarity dataset 2.0 (Pang and Lee 2004)", "research use"),
    "stsb_train.tsv": ("STS-B (Cer et al. 2017)", "CC BY-SA 4.0"),
    "stsb_dev.tsv": ("STS-B (Cer et al. 2017)", "CC BY-SA 4.0"),
    "sts12_16_rest.tsv": ("STS 2012 to 2016 without the pairs of STS-B (Agirre et al. 2012 to 2016)", "CC BY-SA 4.0"),
    "wikitext2_valid.txt": ("WikiText-2, valid (Merity et al. 2016)", "CC BY-SA 3.0"),
    "wikitext2_test.txt": ("WikiText-2, test (Merity et al. 2016)", "CC BY-SA 3.0"),
    "qa_contexts.txt": ("contexts of SQuADShifts, QAMR and SQuAD 2.0", "CC BY 4.0, MIT, CC BY-SA 4.0"),
}
NOT_STATED = "not stated"

TEMPLATE = """\
---
pipeline_tag: {pipeline_tag}
tags: [{tags}]
---

# {name}

{summary}
{origin}

| | {columns} |
|---|{rule}|
{figures}

Figures are percentages on {data}, {counts}.

## Training data

| file | used for | source | licence |
|---|---|---|---|
{files}

{commands}

## Limits

{limits}

## How to load it

Served by this project: put the directory at `bundles/{task}` and run `make serve`. With other tools:

```python
{load}
```

`manifest.json` lists every file with its SHA-256, the checks that this export passed and inputs with the outputs that
it gave to them.
"""


def model_card(manifest: Manifest, task: AnyTask, *, stage: Path, directory: str) -> str:
    """Write the card of the bundle in `stage`; `directory` is where it will lie, for the lines that load it."""
    text = RECIPES[manifest.task].card
    columns = _columns(manifest)
    subfolder, _, file = (INT8_MODEL if manifest.quantization else FP32_MODEL).partition("/")
    return TEMPLATE.format(
        pipeline_tag=text.pipeline_tag,
        tags=text.tags,
        name=manifest.name,
        summary=text.summary,
        origin=_origin(manifest.student, manifest.teacher),
        columns=" | ".join(columns),
        rule="|".join("---" for _ in columns),
        figures="\n".join(_figures(manifest, columns)),
        data=f"`{manifest.metrics.data}`",
        counts=text.counted.format(**manifest.metrics.student_fp32),
        files="\n".join(map(_data_row, manifest.data)),
        commands="\n".join(_commands(manifest)),
        limits="\n".join(f"- {limit}" for limit in _limits(manifest, task)),
        task=manifest.task,
        load=RECIPES[manifest.task].load_lines(stage).format(directory=directory, subfolder=subfolder, file=file),
    )


def _limits(manifest: Manifest, task: AnyTask) -> list[str]:
    recipe = RECIPES[manifest.task]
    limits = [*recipe.card.limits, *recipe.card_limits(task)]
    return [*limits, INT8_LIMIT] if manifest.quantization else limits


def _origin(student: ModelRecord, teacher: ModelRecord | None) -> str:
    kind = (
        f"{student.architecture}, {student.layers} layers of {student.hidden_size}, {student.parameters:,} parameters"
    )
    training = student.training
    source = training.source if training else None
    teachers = [_teacher_record(teacher)] if teacher else list(training.teachers if training else ())
    names = ", ".join(record.name for record in teachers)
    described = " and from ".join(map(_described, teachers))
    if not teachers:
        return f"{kind}. Its training began from {source}." if source else f"{kind}."
    if source and not teacher and source != names:  # they taught the model that this one began from
        return f"{kind}. Its training began from {source}, which was distilled from {described}."
    origin = f"{kind}, distilled from {described}."
    return f"{origin} Its teachers were several: {source}." if source and teacher and ", " in source else origin


def _teacher_record(teacher: ModelRecord) -> TeacherRecord:
    return TeacherRecord(
        name=teacher.name,
        architecture=teacher.architecture,
        layers=teacher.layers,
        hidden_size=teacher.hidden_size,
        source=teacher.training.source if teacher.training else None,
    )


def _described(teacher: TeacherRecord) -> str:
    start = f" (which began from {teacher.source})" if teacher.source else ""
    return f"`{teacher.name}`{start}, {teacher.layers} layers of {teacher.hidden_size}"


def _columns(manifest: Manifest) -> dict[str, tuple[ModelRecord, dict[str, float] | None]]:
    metrics: Metrics = manifest.metrics
    columns: dict[str, tuple[ModelRecord, dict[str, float] | None]] = {}
    if manifest.teacher:
        columns["teacher"] = (manifest.teacher, metrics.teacher)
    columns["student, fp32"] = (manifest.student, metrics.student_fp32)
    if metrics.student_int8:
        columns["student, int8"] = (manifest.student, metrics.student_int8)
    return columns


def _figures(manifest: Manifest, columns: dict[str, tuple[ModelRecord, dict[str, float] | None]]) -> list[str]:
    sizes = [model.bytes for model, _ in columns.values()]
    if manifest.quantization:
        sizes[-1] = next(record.bytes for record in manifest.files if record.path == INT8_MODEL)
    rows = [
        ["parameters, millions", *(f"{model.parameters / 1e6:.1f}" for model, _ in columns.values())],
        ["weights, MB", *(f"{size / 1e6:.1f}" for size in sizes)],
    ]
    for key, label in RECIPES[manifest.task].card.figures.items():
        values = [(metrics or {}).get(key) for _, metrics in columns.values()]
        if any(value is not None for value in values):
            rows.append([label, *("" if value is None else f"{value:.1f}" for value in values)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _data_row(record: DataRecord) -> str:
    return f"| `{record.name}` | {record.used_for} | {record.source or NOT_STATED} | {record.licence or NOT_STATED} |"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _commands(manifest: Manifest) -> list[str]:
    lines = ["How it was made:", ""]
    for role, model in (("teacher", manifest.teacher), ("student", manifest.student)):
        if model and model.training:
            lines.append(f"- {role}: `{model.training.command}` ({_duration(model.training.seconds)})")
        elif model:
            lines.append(f"- {role}: the checkpoint came without a record of its training, so its data are not listed")
    return [*lines, f"- bundle: `{manifest.command}`"]
