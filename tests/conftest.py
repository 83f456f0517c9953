"""Tiny random checkpoints with real tokenizers, and a tiny SQuAD file, made once for all tests.

torch and transformers are imported inside the fixtures: the tests of the service need neither.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PARAGRAPHS = {
    "Lighthouses": [
        "The old lighthouse on the northern cape was built in 1871 by Anna Lindqvist, an engineer from Gothenburg.",
        "Its lamp burned whale oil until 1902. The last keeper, Piet de Vries, left the tower in the spring of 1968.",
    ],
    "Bakeries": [
        "Every morning at four Tomás unlocks the bakery behind the market and feeds the oven with beech wood.",
        "His grandmother opened the shop in 1949 with a loan of 300 escudos. The café next door pays in rolls.",
    ],
}
QUESTIONS = [  # title, paragraph, question, answer; no answer makes the question impossible
    ("Lighthouses", 0, "Who built the lighthouse?", "Anna Lindqvist"),
    ("Lighthouses", 0, "When was the lighthouse built?", "1871"),
    ("Lighthouses", 0, "Where does the engineer come from?", "Gothenburg"),
    ("Lighthouses", 0, "Who paid for the lighthouse?", None),
    ("Lighthouses", 1, "What did the lamp burn?", "whale oil"),
    ("Lighthouses", 1, "Who was the last keeper?", "Piet de Vries"),
    ("Bakeries", 0, "Who unlocks the bakery?", "Tomás"),
    ("Bakeries", 0, "What heats the oven?", "beech wood"),
    ("Bakeries", 0, "How old is the oven?", None),
    ("Bakeries", 1, "How large was the loan?", "300 escudos"),
    ("Bakeries", 1, "When did the shop open?", "1949"),
    ("Bakeries", 1, "How does the café pay?", "in rolls"),
]
KINDS = ("bert", "distilbert", "roberta")
POSITIONS = 512

settings.register_profile("quick", max_examples=25, deadline=None)
settings.register_profile("torture", max_examples=2000, deadline=None, print_blob=True)
settings.load_profile("quick")


@pytest.fixture(scope="session")
def squad_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_squad(tmp_path_factory.mktemp("data") / "tiny_squad.json")


def write_squad(path: Path) -> Path:
    """SQuAD 2.0 JSON: 12 questions, 2 of them impossible."""

    def question(number: int, context: str, text: str, answer: str | None) -> dict[str, Any]:  # as the format is
        answers = [] if answer is None else [{"text": answer, "answer_start": context.index(answer)}]
        return {"id": f"q{number}", "question": text, "answers": answers, "is_impossible": answer is None}

    articles = [
        {
            "title": title,
            "paragraphs": [
                {
                    "context": context,
                    "qas": [
                        question(number, context, text, answer)
                        for number, (of, at, text, answer) in enumerate(QUESTIONS)
                        if (of, at) == (title, place)
                    ],
                }
                for place, context in enumerate(contexts)
            ],
        }
        for title, contexts in PARAGRAPHS.items()
    ]
    path.write_text(json.dumps({"version": "v2.0", "data": articles}), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def tiny_teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A 4-layer BERT encoder of hidden size 32 with pooler and token types, as all-MiniLM ships: without a head, and
    with truncation at 128 tokens and padding switched on in its tokenizer.json.
    """
    from transformers import BertConfig, BertModel

    path = tmp_path_factory.mktemp("checkpoints") / "tiny-teacher"
    vocabulary = _save_tokenizer("bert", path, truncation=128)
    _save(BertModel, BertConfig(**_sizes(vocabulary), num_hidden_layers=4), path)
    return path


@pytest.fixture(scope="session")
def tiny_qa(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Random 2-layer question-answering checkpoints by kind: bert, distilbert, roberta."""
    import transformers

    paths = {}
    for kind in KINDS:
        paths[kind] = path = tmp_path_factory.mktemp("checkpoints") / f"tiny-{kind}"
        sizes = _sizes(_save_tokenizer(kind, path, truncation=128)) | {"num_hidden_layers": 2}
        if kind == "bert":
            _save(transformers.BertForQuestionAnswering, transformers.BertConfig(**sizes), path)
        elif kind == "distilbert":
            sizes["hidden_dim"] = sizes.pop("intermediate_size")  # the one name that it does not share
            _save(transformers.DistilBertForQuestionAnswering, transformers.DistilBertConfig(**sizes), path)
        else:  # its positions begin behind the padding token's id
            sizes |= {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1}
            sizes |= {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
            _save(transformers.RobertaForQuestionAnswering, transformers.RobertaConfig(**sizes), path)
    return paths


def _sizes(vocabulary: int) -> dict[str, Any]:  # numbers, as the configurations take them
    return {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        # Far above the usual 0.02, under which all the logits of a random model are nearly the same.
        "initializer_range": 0.2,
    }


def _save(model_class: Any, config: Any, path: Path) -> None:  # any of transformers' classes
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(0)
        model_class(config).save_pretrained(path)


def _save_tokenizer(kind: str, path: Path, *, truncation: int) -> int:
    """Train a tokenizer on the paragraphs and save it as transformers does; returns the size of its vocabulary."""
    from transformers import BertTokenizerFast, DistilBertTokenizerFast, RobertaTokenizerFast

    tokenizer = byte_level_bpe() if kind == "roberta" else word_piece()
    tokenizer.enable_truncation(truncation)
    tokenizer.enable_padding(pad_id=tokenizer.token_to_id("<pad>" if kind == "roberta" else "[PAD]"), length=truncation)
    classes = {"bert": BertTokenizerFast, "distilbert": DistilBertTokenizerFast, "roberta": RobertaTokenizerFast}
    classes[kind](tokenizer_object=tokenizer, model_max_length=POSITIONS).save_pretrained(path)
    size: int = tokenizer.get_vocab_size()
    return size


def _texts() -> list[str]:
    return [text for contexts in PARAGRAPHS.values() for text in contexts] + [text for _, _, text, _ in QUESTIONS]


def word_piece() -> Tokenizer:
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.train_from_iterator(_texts(), trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def byte_level_bpe() -> Tokenizer:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _texts(), trainers.BpeTrainer(vocab_size=500, special_tokens=special, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(
        ("</s>", tokenizer.token_to_id("</s>")), ("<s>", tokenizer.token_to_id("<s>")), add_prefix_space=False
    )
    return tokenizer
