"""What the model card says of each task."""

from dataclasses import dataclass

from models.tasks.base import TaskName


@dataclass(frozen=True, slots=True)
class CardText:
    """`figures`: the metrics' keys and what the table calls them; `counted` is what the dev set holds."""

    pipeline_tag: str
    tags: str
    what: str
    counted: str
    figures: dict[str, str]
    limits: tuple[str, ...]
    load: str


CARD_TEXTS: dict[TaskName, CardText] = {
    "qa": CardText(
        pipeline_tag="question-answering",
        tags="onnx, extractive-question-answering",
        what="Extractive question answering: the answer to a question is a span of the passage that comes with it.",
        counted="{n_answerable:.0f} answerable of {n:.0f} questions",
        figures={
            "exact": "exact match, answerable questions",
            "f1": "F1, answerable questions",
            "exact_all": "exact match, all questions, abstaining",
            "f1_all": "F1, all questions, abstaining",
            "best_f1_all": "F1, all questions, best threshold for this set",
        },
        limits=(
            "The answer is always a span of the passage: nothing is composed, counted or reasoned out, and what the "
            "passage\n  says is not checked. Passages unlike the training data are answered less well than the table "
            "says.",
            "Windows of at most 384 tokens; a longer passage is read by overlapping windows.",
        ),
        load="""\
from optimum.onnxruntime import ORTModelForQuestionAnswering
from transformers import AutoTokenizer, pipeline

model = ORTModelForQuestionAnswering.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
answer = pipeline("question-answering", model=model, tokenizer=tokenizer)""",
    ),
    "classify": CardText(
        pipeline_tag="text-classification",
        tags="onnx",
        what="Classification of texts.",
        counted="{n:.0f} texts",
        figures={"accuracy": "accuracy", "f1": "F1", "matthews": "Matthews correlation"},
        limits=(
            "A text is given one of the labels that the model was trained with, whatever it is about; a score is the "
            "model's\n  own and not a frequency that was checked.",
            "Windows of at most 384 tokens; of a longer text the rest is cut off, or all windows are averaged "
            "(`on_overflow`).",
        ),
        load="""\
from optimum.onnxruntime import ORTModelForSequenceClassification
from transformers import AutoTokenizer, pipeline

model = ORTModelForSequenceClassification.from_pretrained("{directory}", subfolder="{subfolder}", file_name="{file}")
tokenizer = AutoTokenizer.from_pretrained("{directory}")
classify = pipeline("text-classification", model=model, tokenizer=tokenizer)""",
    ),
    "similarity": CardText(
        pipeline_tag="sentence-similarity",
        tags="onnx, sentence-transformers, feature-extraction",
        what="Sentence embeddings of unit length, to be compared by their cosine.",
        counted="{n:.0f} pairs",
        figures={"spearman": "Spearman correlation", "pearson": "Pearson correlation"},
        limits=(
            "The cosine tells how alike two sentences are in what they are about, not whether both are true or follow "
            "from\n  each other: a sentence and its denial are close.",
            "Texts are read up to the limit in `sentence_bert_config.json`; the distillation saw single sentences.",
        ),
        load="""\
from sentence_transformers import SentenceTransformer

options = {{"file_name": "{subfolder}/{file}"}}
model = SentenceTransformer("{directory}", backend="onnx", model_kwargs=options)
embeddings = model.encode(["A first sentence.", "A second one."])""",
    ),
}
ABSTAINS = "Trained to say that a passage holds no answer; the threshold stands in `config.json`."
ABSTAINS_NOT = "Not trained to abstain: it answers questions that the passage does not answer."
INT8_LIMIT = (
    "Dynamic int8: outputs change slightly with padding, with the other inputs of a batch and with the CPU. The "
    "figures\n  hold for one unpadded window at a time."
)
