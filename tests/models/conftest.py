"""Small tokenizers of both kinds, trained here."""

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

TEXT = [
    "Who wrote the first program? Ada Lovelace wrote the first program in 1843.",
    "Where is Zürich? Zürich is a city in Switzerland, by the lake.",
    "alpha beta gamma delta epsilon zeta eta theta iota kappa",
]


@pytest.fixture
def bert_tokenizer() -> Tokenizer:
    """WordPiece with [CLS] a [SEP] b [SEP]; truncation and padding are on, as sentence encoders ship them."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    tokenizer.train_from_iterator(TEXT, trainers.WordPieceTrainer(vocab_size=300, special_tokens=specials))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    return tokenizer


@pytest.fixture
def roberta_tokenizer() -> Tokenizer:
    """Byte-level BPE with <s> a </s></s> b </s>, whose tokens own the space before them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXT, trainers.BpeTrainer(vocab_size=400, special_tokens=specials, initial_alphabet=alphabet)
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), trim_offsets=False)
    return tokenizer
