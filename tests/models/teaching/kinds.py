"""Tiny random models of every kind that teaches, each with a tokenizer as its family has it."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast

from tests.models.conftest import TEXT
from tests.models.finetune.mpnet import save_mpnet

# By kind: the marks of its tokenizer (first, last, padding, unknown), and whether two stand between two texts.
UNIGRAM = {
    "albert": ("[CLS]", "[SEP]", "<pad>", "<unk>", False),
    "camembert": ("<s>", "</s>", "<pad>", "<unk>", True),
    "deberta-v2": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", False),
    "xlm-roberta": ("<s>", "</s>", "<pad>", "<unk>", True),
}
BPE = {"modernbert": ("[CLS]", "[SEP]", "[PAD]", "[UNK]", False), "roberta": ("<s>", "</s>", "<pad>", "<unk>", True)}
WORD_PIECE = ("bert", "distilbert", "electra", "mpnet")
KINDS = (*WORD_PIECE, *BPE, *UNIGRAM)
TYPED = ("albert", "bert", "electra")  # which have token types
OFFSET = ("camembert", "mpnet", "roberta", "xlm-roberta")  # which count positions from behind the padding's id
LIMIT = 64
SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "initializer_range": 0.3,
}


def save_kind(kind: str, bert: Path, directory: Path, model_class: Any, **options: Any) -> Path:
    """Save a model of this class with random weights, its head included. `bert`: whose vocabulary WordPiece kinds have.

    Any: one of transformers' Auto classes; what its configuration takes.
    """
    if kind == "mpnet":
        save_mpnet(bert, directory, hidden_size=32)
        tokenizer = AutoTokenizer.from_pretrained(directory)
    elif kind in WORD_PIECE:
        tokenizer = AutoTokenizer.from_pretrained(bert)
    else:
        tokenizer = tokenizer_of(kind)
    sizes: dict[str, Any] = dict(SIZES)  # numbers
    if kind == "distilbert":
        sizes = {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "initializer_range": 0.3}
    if kind == "electra" or kind == "albert":
        sizes["embedding_size"] = 16
    if kind == "deberta-v2":
        sizes |= {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False}
    if kind == "modernbert":
        sizes |= {"global_rope_theta": 1000.0, "initializer_cutoff_factor": 2.0, "reference_compile": False}
        sizes["initializer_range"] = 0.3
    else:
        sizes["type_vocab_size"] = 2 if kind in TYPED else 0 if kind == "deberta-v2" else 1
    if kind in ("distilbert", "mpnet"):
        del sizes["type_vocab_size"]
    config = AutoConfig.for_model(
        kind,
        **sizes,
        vocab_size=len(tokenizer),
        max_position_embeddings=LIMIT + (tokenizer.pad_token_id + 1 if kind in OFFSET else 0),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.cls_token_id,
        eos_token_id=tokenizer.sep_token_id,
        cls_token_id=tokenizer.cls_token_id,
        sep_token_id=tokenizer.sep_token_id,
        **options,
    )
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = model_class.from_config(config)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "LayerNorm" not in name:  # far from 0, whatever the kind's own scheme
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(directory)
    tokenizer.model_input_names = ["input_ids", *(["token_type_ids"] if kind in TYPED else []), "attention_mask"]
    tokenizer.init_kwargs["model_input_names"] = tokenizer.model_input_names
    tokenizer.save_pretrained(directory)
    return directory


def tokenizer_of(kind: str) -> PreTrainedTokenizerFast:
    cls, sep, pad, unk, two = (UNIGRAM | BPE)[kind]
    special = [cls, pad, sep, unk, "<mask>"]
    if kind in UNIGRAM:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.Lowercase() if kind == "albert" else normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(vocab_size=120, special_tokens=special, unk_token=unk)
    else:
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(TEXT, trainer)
    between = f"{sep} {sep}" if two else sep
    typed = ":1" if kind in TYPED else ""
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls} $A {sep}",
        pair=f"{cls} $A {between} $B{typed} {sep}{typed}",
        special_tokens=[(mark, tokenizer.token_to_id(mark)) for mark in (cls, sep)],
    )
    marks = {"cls_token": cls, "sep_token": sep, "pad_token": pad, "unk_token": unk, "mask_token": "<mask>"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=LIMIT, **marks)
