"""What a directory's tokenizer makes of texts, beside transformers' AutoTokenizer on the same files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from models.tasks.base import Features, without_limits
from models.tasks.directory.files import BundleError
from models.tasks.directory.tokenizer import load_tokenizer, read_settings
from models.tasks.qa import QAInput, QuestionAnswering
from models.tasks.text.windows import encode_text
from tests.conftest import KINDS, PARAGRAPHS

TEXTS = [
    "The old lighthouse",
    "Tomás UNLOCKS the Café, 北京 behind the market",
    "  oven [MASK] <mask> [SEP] </s> bakery.",
    "don't",
    "",
]
WORDS = PARAGRAPHS["Lighthouses"][0].split()
LISTED = {"content": "oven", "lstrip": True, "rstrip": True, "normalized": False, "single_word": True, "special": False}
SETTINGS: list[dict[str, Any]] = [
    {},
    {"do_lower_case": False},
    {"do_lower_case": False, "strip_accents": True},
    {"strip_accents": False},
    {"tokenize_chinese_chars": False},
    {"tokenizer_class": "PreTrainedTokenizerFast", "do_lower_case": False},
    {"model_input_names": ["input_ids", "attention_mask"]},
    {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]},
    {"add_prefix_space": True},
    {"split_special_tokens": True},
    {"additional_special_tokens": ["bakery"]},
    {"mask_token": "bakery"},
    {"extra_special_tokens": {"shop_token": "bakery"}},
    {"added_tokens_decoder": {"7": LISTED}},
    {"added_tokens_decoder": {"7": LISTED}, "additional_special_tokens": ["market"], "do_lower_case": False},
]


@pytest.fixture(params=KINDS)
def directory(request: pytest.FixtureRequest, tiny_qa: dict[str, Path], tmp_path: Path) -> Path:
    path = tmp_path / "model"
    shutil.copytree(tiny_qa[request.param], path, ignore=shutil.ignore_patterns("*.safetensors"))
    return path


def set_keys(directory: Path, settings: dict[str, Any], file: str = "tokenizer_config.json") -> None:
    kept = json.loads((directory / file).read_text())
    if "added_tokens_decoder" in settings:
        kept["added_tokens_decoder"] |= settings["added_tokens_decoder"]
        settings = {key: value for key, value in settings.items() if key != "added_tokens_decoder"}
    (directory / file).write_text(json.dumps(kept | settings))


def arrays(encoded: Any) -> tuple[list[int], list[int]]:  # transformers' BatchEncoding
    ids = list(encoded["input_ids"])
    return ids, list(encoded.get("token_type_ids", [0] * len(ids)))


def window(features: Features) -> tuple[list[int], list[int]]:
    return features.input_ids.tolist(), features.token_type_ids.tolist()


def ours(directory: Path, text: str, pair: str | None, max_length: int = 1000) -> tuple[list[int], list[int]]:
    tokenizer = load_tokenizer(directory)
    settings = read_settings(directory, tokenizer)
    without_limits(tokenizer)
    encoding = encode_text(tokenizer, text, pair, max_length=max_length, on_overflow="truncate", settings=settings)
    [features] = encoding.windows
    return window(features)


def assert_as_transformers(directory: Path) -> PreTrainedTokenizerBase:
    theirs: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(directory)
    for text in TEXTS:
        for pair in (None, *TEXTS[:-1]):  # transformers takes an empty one for none
            assert ours(directory, text, pair) == arrays(theirs(text, pair)), (text, pair)
    return theirs


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_setting_is_honoured(directory: Path, settings: dict[str, Any]) -> None:
    set_keys(directory, settings)
    assert_as_transformers(directory)


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
@pytest.mark.parametrize("name", ["BertTokenizer", "ElectraTokenizerFast", "DistilBertTokenizer"])
def test_the_named_class_decides_over_the_kind_of_the_model(
    tiny_qa: dict[str, Path], tmp_path: Path, kind: str, name: str
) -> None:
    path = shutil.copytree(tiny_qa[kind], tmp_path / "model")
    set_keys(path, {"tokenizer_class": name, "strip_accents": False})
    assert_as_transformers(path)


@pytest.mark.parametrize(
    "component",
    [
        {"normalizer": {"type": "Lowercase"}},
        {"normalizer": None},
        {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}},
        {"added_tokens": []},
    ],
    ids=str,
)
def test_tokenizer_json_may_disagree(directory: Path, component: dict[str, Any]) -> None:
    if component == {"normalizer": None}:
        set_keys(directory, {"tokenizer_class": "PreTrainedTokenizerFast"})  # BERT's classes do not load it
    set_keys(directory, component, "tokenizer.json")
    assert_as_transformers(directory)


def test_without_settings_the_kind_of_the_model_decides(directory: Path) -> None:
    (directory / "tokenizer_config.json").unlink()
    content = json.loads((directory / "tokenizer.json").read_text())
    if content["normalizer"]:
        set_keys(directory, {"normalizer": content["normalizer"] | {"lowercase": False}}, "tokenizer.json")
    assert_as_transformers(directory)


def test_special_tokens_of_transformers_5_are_those_of_before(directory: Path) -> None:
    set_keys(directory, {"extra_special_tokens": ["bakery"]})
    found = [ours(directory, text, None) for text in TEXTS]
    set_keys(directory, {"extra_special_tokens": {}, "additional_special_tokens": ["bakery"]})
    theirs = assert_as_transformers(directory)
    assert found == [arrays(theirs(text)) for text in TEXTS]


def test_special_tokens_may_stand_in_their_old_file(directory: Path) -> None:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    set_keys(directory, {"additional_special_tokens": ["bakery"]}, "special_tokens_map.json")
    assert_as_transformers(directory)


def test_the_default_mask_is_found_where_no_file_lists_it(directory: Path) -> None:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    kept = {key: value for key, value in config.items() if not key.endswith("_token") and key != "added_tokens_decoder"}
    (directory / "tokenizer_config.json").write_text(json.dumps(kept))
    (directory / "special_tokens_map.json").unlink(missing_ok=True)
    set_keys(directory, {"added_tokens": []}, "tokenizer.json")
    assert_as_transformers(directory)


@pytest.mark.parametrize("kept", [True, False])
def test_added_tokens_may_stand_in_their_old_file(directory: Path, kept: bool) -> None:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    del config["added_tokens_decoder"]
    (directory / "tokenizer_config.json").write_text(json.dumps(config | {"additional_special_tokens": ["Tomás"]}))
    tokenizer = json.loads((directory / "tokenizer.json").read_text())
    first_id = len(tokenizer["model"]["vocab"])
    added_tokens = {"lighth": first_id, "Tomás": first_id + 1, "arke": tokenizer["added_tokens"][0]["id"]}
    (directory / "added_tokens.json").write_text(json.dumps(added_tokens))
    if not kept:
        set_keys(directory, {"added_tokens": []}, "tokenizer.json")
    theirs = assert_as_transformers(directory)
    assert "lighth" in theirs.tokenize(TEXTS[0])


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("saved_in", ["tokenizer_config.json", "tokenizer.json"])
def test_texts_and_pairs_are_cut_to_the_very_token(directory: Path, side: str, saved_in: str) -> None:
    config = json.loads((directory / "tokenizer_config.json").read_text())
    config.pop("truncation_side", None)
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    if saved_in == "tokenizer.json":
        truncation = json.loads((directory / saved_in).read_text())["truncation"]
        set_keys(directory, {"truncation": truncation | {"direction": side.capitalize()}}, saved_in)
    else:
        set_keys(directory, {"truncation_side": side})
    theirs = AutoTokenizer.from_pretrained(directory)
    assert theirs.truncation_side == side
    for first in (1, 2, 5, 6, 12):
        for second in (0, 1, 3, 5, 6, 13):
            text, pair = " ".join(WORDS[:first]), " ".join(WORDS[-second:]) if second else None
            for max_length in (6, 7, 10, 11, 18, 19, 24):
                expected = arrays(theirs(text, pair, truncation=True, max_length=max_length))
                assert ours(directory, text, pair, max_length) == expected, (first, second, max_length)


@pytest.mark.parametrize("padding_side", ["left", "right"])
@pytest.mark.parametrize("truncation_side", ["left", "right"])
def test_windows_of_a_context_are_the_pipelines(directory: Path, truncation_side: str, padding_side: str) -> None:
    set_keys(directory, {"truncation_side": truncation_side, "padding_side": padding_side})
    tokenizer = load_tokenizer(directory)
    settings = read_settings(directory, tokenizer)
    theirs = AutoTokenizer.from_pretrained(directory)
    question, is_first = "Who built it?", padding_side == "left"
    for words in (1, 5, 11, 18):
        context = " ".join(WORDS[:words])
        for max_length, stride in ((24, 2), (25, 5), (30, 0)):
            kernel = QuestionAnswering(tokenizer, max_length=max_length, settings=settings)
            windows = kernel.encode(QAInput(question, context, doc_stride=stride)).windows
            expected = theirs(
                *((context, question) if is_first else (question, context)),
                truncation="only_first" if is_first else "only_second",
                max_length=max_length,
                stride=stride,
                return_overflowing_tokens=True,
            )
            types = expected.get("token_type_ids", [[0] * len(ids) for ids in expected["input_ids"]])
            assert [window(each) for each in windows] == list(zip(expected["input_ids"], types, strict=True))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncation_side": "middle"}, "truncation_side must be right or left"),
        ({"model_input_names": "input_ids"}, "model_input_names must be a list of names"),
        ({"added_tokens_decoder": {"7": 3}}, "settings of a wrong type"),
        ({"do_lower_case": "yes"}, "settings of a wrong type"),
        (
            {"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.0.json"]},
            r"names other files; only tokenizer\.json is read; save it with transformers$",
        ),
        ({"add_eos_token": True, "eos_token": "oven"}, "says add_eos_token=True and tokenizer.json does otherwise"),
        ({"tokenizer_class": "NllbTokenizerFast"}, "puts marks of languages around a text"),
        ({"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>"}, "add_bos_token=True and tokenizer.json does other"),
        ({"tokenizer_class": "GPTNeoXTokenizer", "bos_token": "[CLS]"}, "add_bos_token=False and tokenizer.json does"),
        (
            {"add_bos_token": True},
            "does otherwise; load the tokenizer with transformers' AutoTokenizer and save it again$",
        ),
    ],
)
def test_a_setting_that_cannot_be_honoured_is_refused(
    tiny_qa: dict[str, Path], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    path = shutil.copytree(tiny_qa["bert"], tmp_path / "model")
    set_keys(path, settings)
    with pytest.raises(BundleError, match=message):
        read_settings(path, load_tokenizer(path))


def test_merges_that_cannot_be_are_told_in_words(tiny_qa: dict[str, Path], tmp_path: Path) -> None:
    path = shutil.copytree(tiny_qa["roberta"], tmp_path / "model")
    model = json.loads((path / "tokenizer.json").read_text())["model"]
    set_keys(path, {"model": model | {"continuing_subword_prefix": "####"}}, "tokenizer.json")
    with pytest.raises(BundleError, match="is not a readable tokenizer"):
        load_tokenizer(path)


@pytest.mark.parametrize("frame", ["single", "pair"])
def test_a_frame_of_tokens_that_are_not_there_is_refused(tiny_qa: dict[str, Path], tmp_path: Path, frame: str) -> None:
    path = shutil.copytree(tiny_qa["bert"], tmp_path / "model")
    processor = json.loads((path / "tokenizer.json").read_text())["post_processor"]
    processor[frame][0]["SpecialToken"]["id"] = "[NONE]"
    set_keys(path, {"post_processor": processor}, "tokenizer.json")
    with pytest.raises(BundleError, match=r"tokenizer\.json has a post_processor that fails \(.*\); restore the file$"):
        load_tokenizer(path)


def test_a_vocabulary_alone_is_told_how_to_become_a_tokenizer(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("[UNK]\n")
    remedy = r"AutoTokenizer\.from_pretrained\(DIR\)\.save_pretrained\(DIR\)$"
    with pytest.raises(BundleError, match=rf"tokenizer\.json is missing; make it with transformers: {remedy}"):
        load_tokenizer(tmp_path)
