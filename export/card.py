"""The model card (README.md of a bundle): what it is, how good, from which data, how to load it."""

from models.tasks.bundle import FP32_MODEL, INT8_MODEL, DataRecord, Manifest, Metrics, ModelRecord

# Source and licence of the public files that the default bundles are trained on, by file name.
PUBLIC_DATA = {
    "squadshifts_wiki.json": ("SQuADShifts, new Wikipedia (Miller et al. 2020)", "CC BY 4.0"),
    "squadshifts_amazon.json": ("SQuADShifts, Amazon reviews (Miller et al. 2020)", "CC BY 4.0"),
    "squadshifts_reddit.json": ("SQuADShifts, Reddit (Miller et al. 2020)", "CC BY 4.0"),
    "qamr.json": ("QAMR, dev and test (Michael et al. 2018)", "MIT"),
    "squad2_train.json": ("part of SQuAD 2.0 dev (Rajpurkar et al. 2018)", "CC BY-SA 4.0"),
    "squad2_dev.json": ("part of SQuAD 2.0 dev (Rajpurkar et al. 2018)", "CC BY-SA 4.0"),
}
NOT_STATED = "not stated"
FIGURES = {
    "exact": "exact match, answerable questions",
    "f1": "F1, answerable questions",
    "exact_all": "exact match, all questions, abstaining",
    "f1_all": "F1, all questions, abstaining",
}

TEMPLATE = """\
---
pipeline_tag: question-answering
tags: [onnx, extractive-question-answering]
---

# {name}

Extractive question answering: the answer to a question is a span of the passage that comes with it.
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

- The answer is always a span of the passage: nothing is composed, counted or reasoned out, and what the passage
  says is not checked. Passages unlike the training data are answered less well than the table says.
- {abstains}
- Windows of at most 384 tokens; a longer passage is read by overlapping windows.
{int8_limit}
## How to load it

Served by this project: put the directory at `bundles/qa` and run `make serve`. With other tools:

```python
from optimum.onnxruntime import ORTModelForQuestionAnswering
from transformers import AutoTokenizer, pipeline

model = ORTModelForQuestionAnswering.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
answer = pipeline("question-answering", model=model, tokenizer=tokenizer)
```

`manifest.json` lists every file with its SHA-256, the checks that this export passed and inputs with the answers that
it gave to them.
"""
INT8_LIMIT = """\
- Dynamic int8: answers change slightly with padding, with the other inputs of a batch and with the CPU. The figures
  hold for one unpadded window at a time.
"""


def model_card(manifest: Manifest, *, abstains: bool, directory: str) -> str:
    """`directory` is where the bundle will lie, for the lines that load it."""
    columns = _columns(manifest)
    served = INT8_MODEL if manifest.quantization else FP32_MODEL
    subfolder, _, file = served.partition("/")
    metrics = manifest.metrics
    return TEMPLATE.format(
        name=manifest.name,
        origin=_origin(manifest.student, manifest.teacher),
        columns=" | ".join(columns),
        rule="|".join("---" for _ in columns),
        figures="\n".join(_figures(manifest, columns)),
        data=f"`{metrics.data}`",
        counts=f"{metrics.student_fp32['n_answerable']:.0f} answerable of {metrics.student_fp32['n']:.0f} questions",
        files="\n".join(map(_data_row, manifest.data)),
        commands="\n".join(_commands(manifest)),
        abstains="Trained to say that a passage holds no answer; the threshold stands in `config.json`."
        if abstains
        else "Not trained to abstain: it answers questions that the passage does not answer.",
        int8_limit=INT8_LIMIT if manifest.quantization else "",
        directory=directory,
        subfolder=subfolder,
        file=file,
    )


def _origin(student: ModelRecord, teacher: ModelRecord | None) -> str:
    kind = (
        f"{student.architecture}, {student.layers} layers of {student.hidden_size}, {student.parameters:,} parameters"
    )
    if teacher is None:
        return f"{kind}."
    began = f" (which began from {teacher.training.source})" if teacher.training else ""
    return f"{kind}, distilled from `{teacher.name}`{began}, {teacher.layers} layers of {teacher.hidden_size}."


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
    for key, label in FIGURES.items():
        values = [(metrics or {}).get(key) for _, metrics in columns.values()]
        if any(value is not None for value in values):
            rows.append([label, *("" if value is None else f"{value:.1f}" for value in values)])
    return [f"| {' | '.join(row)} |" for row in rows]


def _data_row(record: DataRecord) -> str:
    return f"| `{record.name}` | {record.used_for} | {record.source or NOT_STATED} | {record.licence or NOT_STATED} |"


def _commands(manifest: Manifest) -> list[str]:
    lines = ["How it was made:", ""]
    for role, model in (("teacher", manifest.teacher), ("student", manifest.student)):
        if model and model.training:
            lines.append(f"- {role}: `{model.training.command}` ({model.training.seconds / 60:.0f} minutes)")
        elif model:
            lines.append(f"- {role}: the checkpoint came without a record of its training, so its data are not listed")
    return [*lines, f"- bundle: `{manifest.command}`"]
