"""Makes tiny random checkpoints of every kind of encoder, each with the kind's own tokenizer."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from models.tasks.base import TaskName
from tests.conftest import PARAGRAPHS, QUESTIONS

POSITIONS = 64
# Of the weights: far above the usual 0.02, under which all logits are nearly the same.
SPREAD, HEAD_SPREAD = 0.2, 0.8
LABELS = ("contradiction", "entailment", "neutral")
CHARACTERS = "abcdefghijklmnopqrstuvwxyzáé0123456789.,?"
BERT_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_SPECIAL = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>"}
HEADS = {"qa": "ForQuestionAnswering", "classify": "ForSequenceClassification", "similarity": "Model"}

PRETRAINED_NAMES = ("bert", "mpnet")  # embedders whose config.json still names the class of their pretraining

Sizes = dict[str, Any]  # numbers and flags, as transformers' configurations take them


@dataclass(frozen=True)
class Kind:
    """A kind of encoder: transformers' names, its tokenizer, and what its configuration has beyond BERT's.

    `special`: the special tokens by their role, in the order of their ids. `pair`: how two texts are laid out.
    """

    name: str  # as in `model_type`
    prefix: str  # of the classes
    tokenizer_class: str
    tokenizer: Callable[["Kind"], Tokenizer]
    special: dict[str, str]
    pair: str
    config: Sizes = field(default_factory=dict)

    @property
    def single(self) -> str:
        return self.pair.partition("$A")[0] + "$A " + self.pair.partition("$A")[2].split()[0]

    def token_id(self, role: str) -> int:
        return list(self.special).index(role)


def words(tokenizer: Tokenizer) -> list[str]:
    """Find every second word of the texts, as the tokenizer splits them; the others are read in pieces.

    No trainer's vocabularies: of equally frequent pieces it takes now these, now those.
    """
    texts = [text for contexts in PARAGRAPHS.values() for text in contexts] + [text for _, _, text, _ in QUESTIONS]
    found = set()
    for text in texts:
        normalized = tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text
        found |= {word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normalized)}
    return sorted(found)[::2]


def numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def word_piece(kind: Kind) -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token=kind.special["unk"]))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    pieces = [*CHARACTERS, *(f"##{character}" for character in CHARACTERS), *words(tokenizer)]
    vocabulary = numbered([*kind.special.values(), *pieces])
    tokenizer.model = models.WordPiece(vocabulary, unk_token=kind.special["unk"])
    return tokenizer


def byte_level_bpe(kind: Kind) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [(word[:end], word[end]) for word in words(tokenizer) for end in range(1, len(word))]
    merges = list(dict.fromkeys(merges))
    vocabulary = numbered([*kind.special.values(), *alphabet, *("".join(pair) for pair in merges)])
    tokenizer.model = models.BPE(vocabulary, merges)
    return tokenizer


def unigram(kind: Kind) -> Tokenizer:
    """SentencePiece's model as the kind's fast tokenizer has it: ALBERT lower-cases and strips accents."""
    tokenizer = Tokenizer(models.Unigram())
    steps = [normalizers.Replace(Regex(" {2,}"), " "), normalizers.NFKC()]
    if kind.name == "albert":
        steps = [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase(), *steps]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    pieces = numbered([*kind.special.values(), "▁", *CHARACTERS, *CHARACTERS.upper(), *words(tokenizer)])
    scores = [(piece, 0.0 if piece in kind.special.values() else -3.0 - 0.1 * len(piece)) for piece in pieces]
    tokenizer.model = models.Unigram(scores, unk_id=kind.token_id("unk"))
    return tokenizer


BERT_PAIR = "[CLS] $A [SEP] $B:1 [SEP]:1"
ROBERTA_PAIR = "<s> $A </s> </s> $B </s>"
ROBERTA_SIZES: Sizes = {"max_position_embeddings": POSITIONS + 2, "type_vocab_size": 1, "bos_token_id": 0}
DEBERTA_SIZES: Sizes = {
    "type_vocab_size": 0,
    "relative_attention": True,
    "max_relative_positions": -1,
    "pos_att_type": ["p2c", "c2p"],
    "pooler_hidden_size": 32,
}
DEBERTA_V3_SIZES = DEBERTA_SIZES | {
    "position_buckets": 16,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
}
MODERNBERT_SIZES: Sizes = {"local_attention": 16, "global_attn_every_n_layers": 2, "reference_compile": False}

KINDS = {
    kind.name: kind
    for kind in (
        Kind("bert", "Bert", "BertTokenizerFast", word_piece, BERT_SPECIAL, BERT_PAIR),
        Kind("distilbert", "DistilBert", "DistilBertTokenizerFast", word_piece, BERT_SPECIAL, BERT_PAIR),
        Kind("electra", "Electra", "ElectraTokenizerFast", word_piece, BERT_SPECIAL, BERT_PAIR, {"embedding_size": 16}),
        Kind(
            "mpnet",
            "MPNet",
            "MPNetTokenizerFast",
            word_piece,
            {"cls": "<s>", "pad": "<pad>", "sep": "</s>", "unk": "[UNK]", "mask": "<mask>"},
            ROBERTA_PAIR,
            {"max_position_embeddings": POSITIONS + 2},
        ),
        Kind(
            "roberta",
            "Roberta",
            "RobertaTokenizerFast",
            byte_level_bpe,
            ROBERTA_SPECIAL,
            ROBERTA_PAIR,
            ROBERTA_SIZES,
        ),
        Kind(
            "camembert",
            "Camembert",
            "CamembertTokenizerFast",
            unigram,
            ROBERTA_SPECIAL,
            ROBERTA_PAIR,
            ROBERTA_SIZES,
        ),
        Kind(
            "xlm-roberta",
            "XLMRoberta",
            "XLMRobertaTokenizerFast",
            unigram,
            ROBERTA_SPECIAL,
            ROBERTA_PAIR,
            ROBERTA_SIZES,
        ),
        Kind(
            "albert",
            "Albert",
            "AlbertTokenizerFast",
            unigram,
            BERT_SPECIAL,
            BERT_PAIR,
            {"embedding_size": 16, "bos_token_id": 2, "eos_token_id": 3},
        ),
        Kind(
            "deberta-v2",
            "DebertaV2",
            "DebertaV2TokenizerFast",
            unigram,
            BERT_SPECIAL,
            BERT_PAIR,
            DEBERTA_V3_SIZES,
        ),
        Kind(
            "modernbert",
            "ModernBert",
            "PreTrainedTokenizerFast",
            byte_level_bpe,
            BERT_SPECIAL,
            BERT_PAIR.replace(":1", ""),
            MODERNBERT_SIZES | {"bos_token_id": 2, "eos_token_id": 3, "cls_token_id": 2, "sep_token_id": 3},
        ),
    )
}


def save_checkpoint(kind: Kind, task: TaskName, path: Path) -> None:
    """Save two random layers of 32 with the task's head, all of whose weights matter, and the tokenizer.

    An embedder is saved as sentence-transformers does, which declares mean pooling and unit length.
    """
    import torch
    import transformers

    vocabulary = _save_tokenizer(kind, path)
    sizes: Sizes = {
        "vocab_size": vocabulary,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": POSITIONS,
        "pad_token_id": kind.token_id("pad"),
        "hidden_dim" if kind.name == "distilbert" else "intermediate_size": 64,
    }
    if task == "classify":
        sizes |= {"id2label": dict(enumerate(LABELS)), "label2id": {name: n for n, name in enumerate(LABELS)}}
    config = getattr(transformers, f"{kind.prefix}Config")(**sizes | kind.config)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = getattr(transformers, kind.prefix + HEADS[task])(config)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                center = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
                spread = HEAD_SPREAD if name.startswith(("classifier", "qa_outputs")) else SPREAD
                parameter.copy_(center + spread * torch.randn_like(parameter))
    model.save_pretrained(path)
    if task == "similarity":
        _save_as_sentence_transformer(path)
        if kind.name in PRETRAINED_NAMES:
            file = path / "config.json"
            named = {"architectures": [f"{kind.prefix}ForMaskedLM"]}
            file.write_text(json.dumps(json.loads(file.read_text()) | named))


def _save_as_sentence_transformer(path: Path) -> None:
    from sentence_transformers import SentenceTransformer, models

    transformer = models.Transformer(str(path))
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="mean")
    SentenceTransformer(modules=[transformer, pooling, models.Normalize()], device="cpu").save(
        str(path), create_model_card=False
    )


def _save_tokenizer(kind: Kind, path: Path) -> int:
    """Save the kind's tokenizer as transformers does. Returns: the size of its vocabulary."""
    import transformers

    tokenizer = kind.tokenizer(kind)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=kind.single,
        pair=kind.pair,
        special_tokens=[
            (token, tokenizer.token_to_id(token)) for token in kind.special.values() if token in kind.pair.split(" ")
        ],
    )
    roles = {f"{role}_token": token for role, token in kind.special.items()}
    if kind.special is ROBERTA_SPECIAL:
        roles |= {"cls_token": "<s>", "sep_token": "</s>"}
    names = ["input_ids", "attention_mask"] + (["token_type_ids"] if kind.pair is BERT_PAIR else [])
    if kind.name == "distilbert":
        names.remove("token_type_ids")
    getattr(transformers, kind.tokenizer_class)(
        tokenizer_object=tokenizer, model_max_length=POSITIONS, model_input_names=names, **roles
    ).save_pretrained(path)
    return int(tokenizer.get_vocab_size())
