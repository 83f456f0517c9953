"""Which tokens are masked, how often, and that the draw is the same for whoever repeats it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from models.pretrain.corpus import Batches, read_corpus
from models.pretrain.masking import MaskedBatches, mask_tokens, masking_odds

MASK, VOCABULARY = 4, 1000


def test_rarer_tokens_have_higher_odds_and_special_ones_none(bert_tokenizer: Tokenizer) -> None:
    tokenizer = fast(bert_tokenizer)
    pad, unknown, begin, end = (bert_tokenizer.token_to_id(name) for name in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
    odds = masking_odds(np.array([5, 9, 9, 9, 1, 100, 0]), tokenizer)
    assert odds[[pad, begin, end]].tolist() == [0, 0, 0]
    assert odds[[unknown, 4, 5, 6]].tolist() == pytest.approx([9**-0.7, 1, 100**-0.7, 1])


def fast(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def test_masking_keeps_to_its_shares() -> None:
    labels = torch.randint(5, VOCABULARY, (200, 100), generator=torch.Generator().manual_seed(1))
    labels[:, 90:] = 0  # padding
    odds = torch.ones(VOCABULARY).index_fill(0, torch.arange(5), 0)
    ids, chosen = mask_tokens(labels, odds, mask_token_id=MASK, generator=torch.Generator().manual_seed(2))
    assert int(chosen.sum()) == round(0.15 * 200 * 90)
    assert not chosen[:, 90:].any()
    assert torch.equal(ids[~chosen], labels[~chosen])
    masked, kept = (ids[chosen] == MASK).float().mean(), (ids[chosen] == labels[chosen]).float().mean()
    assert masked.item() == pytest.approx(0.8, abs=0.02)  # 2,700 draws: three standard deviations
    assert kept.item() == pytest.approx(0.1, abs=0.02)


def test_a_rare_token_is_chosen_as_often_as_its_odds_say() -> None:
    labels = torch.tensor([[5] * 500 + [6] * 500])
    odds = torch.zeros(VOCABULARY).index_put((torch.tensor([5, 6]),), torch.tensor([1.0, 4.0]))
    generator, shares = torch.Generator().manual_seed(0), []
    for _ in range(50):
        _, chosen = mask_tokens(labels, odds, mask_token_id=MASK, generator=generator)
        shares.append(chosen[0, 500:].sum().item() / chosen.sum().item())
    assert 0.7 < np.mean(shares) < 0.8  # 4 of 5 at the first draw, less as they are used up


def test_a_batch_of_one_token_has_it_masked() -> None:
    odds = torch.ones(VOCABULARY)
    _, chosen = mask_tokens(torch.tensor([[7]]), odds, mask_token_id=MASK, generator=torch.Generator().manual_seed(0))
    assert chosen.tolist() == [[True]]


def test_masks_depend_on_seed_and_number_alone_and_change_with_each_epoch(
    tmp_path: Path, bert_tokenizer: Tokenizer
) -> None:
    path = tmp_path / "text.txt"
    path.write_text("alpha beta gamma delta epsilon zeta eta theta iota kappa\n" * 8)
    corpus = read_corpus([str(path)], bert_tokenizer, max_length=16, cache=tmp_path / "cache")
    odds = torch.from_numpy(masking_odds(corpus.counts(300), fast(bert_tokenizer)))

    def masked(seed: int, number: int) -> list[list[int]]:
        batches = MaskedBatches(Batches(corpus, 8, seed=seed), odds, mask_token_id=1, pad_token_id=0)
        batch = batches[number]
        assert torch.equal(batch.token_positions, batch.labels != 0)
        return batch.input_ids.tolist()

    assert masked(0, 5) == masked(0, 5)
    assert masked(0, 5) != masked(0, 6)  # the same windows: an epoch is one batch here
    assert masked(0, 5) != masked(1, 5)
