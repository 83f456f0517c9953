"""A tiny MPNet whose vocabulary is that of a BERT encoder under other ids, as all-mpnet-base-v2's is."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, processors
from transformers import AutoTokenizer, MPNetConfig, MPNetForQuestionAnswering, PreTrainedTokenizerFast

OWN = ["<s>", "<pad>", "</s>", "<unk>"]


def save_mpnet(bert: Path, directory: Path, *, lacking: str | None = None, hidden_size: int = 48) -> Path:
    """Save a 2-layer model that reads what `bert` reads; `lacking`: a token that its vocabulary has not."""
    theirs = AutoTokenizer.from_pretrained(bert)
    tokens = [token for token, _ in sorted(theirs.get_vocab().items(), key=lambda pair: pair[1])]
    vocabulary = [*OWN, *(token for token in tokens if token != lacking), "<mask>"]
    state = json.loads(theirs.backend_tokenizer.to_str())
    state["model"]["vocab"] = {token: number for number, token in enumerate(vocabulary)}
    state["added_tokens"], state["post_processor"] = [], None
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    marks = {"cls_token": "<s>", "sep_token": "</s>", "pad_token": "<pad>", "mask_token": "<mask>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", **marks).save_pretrained(directory)
    torch.manual_seed(1)
    config = MPNetConfig(
        vocab_size=len(vocabulary),
        hidden_size=hidden_size,
        num_attention_heads=4,
        intermediate_size=64,
        num_hidden_layers=2,
        max_position_embeddings=json.loads((bert / "config.json").read_text())["max_position_embeddings"] + 2,
        pad_token_id=1,
    )
    MPNetForQuestionAnswering(config).save_pretrained(directory)
    return directory
