"""Reads a model's tokenizer, with the settings that transformers lays over tokenizer.json."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from models.tasks.directory.files import CONFIG, TOKENIZER, TOKENIZER_CONFIG, BundleError, read_optional_json, remedy

SPECIAL_TOKENS_MAP = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
Settings = dict[str, Any]  # whatever their authors wrote
Side = Literal["right", "left"]

# Tokenizers that follow BERT's: their classes bring the normalizer in line with tokenizer_config.json.
BERT_KINDS = {
    "bert", "convbert", "distilbert", "electra", "funnel", "layoutlm", "lxmert", "mobilebert", "mpnet", "retribert",
    "megatronbert", "roformer", "splinter", "squeezebert",
}  # fmt: skip
KEEP_CHINESE = {"mpnet", "roformer"}  # these leave handle_chinese_chars as it stands in tokenizer.json
# Tokenizers whose classes ask for no token types unless tokenizer_config.json does.
WITHOUT_TYPES = {
    "bart", "barthez", "bigbird", "camembert", "data2vectext", "distilbert", "gemma", "gpt2", "gptneox", "ibert", "led",
    "llama", "longformer", "mpnet", "mvp", "qwen2", "roberta", "robertaprelayernorm", "t5", "xlmroberta",
    "xlmrobertaxl",
}  # fmt: skip
# Their classes make the post-processor anew, by add_bos_token and add_eos_token.
LLAMA_KINDS = {"codellama", "cohere", "gemma", "gptneox", "llama"}
# These make it anew by the languages of a translation.
TRANSLATING_KINDS = {"mbart", "mbart50", "nllb", "seamlessm4t", "whisper"}
DEFAULT_TOKENS = {
    **dict.fromkeys(BERT_KINDS - {"mpnet"}, ("[UNK]", "[SEP]", "[PAD]", "[CLS]", "[MASK]")),
    **dict.fromkeys({"camembert", "roberta", "xlmroberta"}, ("<s>", "</s>", "<unk>", "<pad>", "<mask>")),
}
LEFT_PADDED = {"xlnet"}
# Their classes let a mask that is named without its flags take in the blanks before it.
MASK_STRIPS_LEFT = {
    "albert", "bart", "barthez", "bigbird", "camembert", "fnet", "led", "longformer", "mpnet", "mvp", "rembert",
    "roberta", "xlmroberta", "xlnet",
}  # fmt: skip
LISTED_TOKENS = "added_tokens_decoder"  # by their ids, with their flags
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """What tokenizer_config.json says beside the tokenizer: how its output becomes windows.

    * `token_types`: whether the model is given token types; without, they are all zero.
    * `truncation_side`: where what is too long is cut, and from which end windows are counted.
    * `context_first`: whether a context stands before its question, as transformers' pipeline does with left padding.
    """

    token_types: bool = True
    truncation_side: Side = "right"
    context_first: bool = False


DEFAULT_SETTINGS = TokenizerSettings()


def check_tokenizer_file(path: Path) -> None:
    """Refuse a directory with other files of a tokenizer alone. Raises: BundleError."""
    if not (path / TOKENIZER).is_file():
        raise BundleError(
            f"{path / TOKENIZER} is missing; make it with transformers: "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR)"
        )


def load_tokenizer(path: Path) -> Tokenizer:
    """Read the tokenizer of the directory `path` as transformers' fast tokenizers do. Raises: BundleError."""
    check_tokenizer_file(path)
    file, settings = path / TOKENIZER, _settings(path)
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the library raises nothing narrower, and panics over merges that cannot be
        reason = " ".join(str(error).split())
        message = f"{file} is not a readable tokenizer ({reason})"
        raise BundleError(f"{message}; {remedy(file, 'restore the file')}") from error
    kind = _kind(path, settings)
    try:
        _apply_normalizer(tokenizer, kind, settings)
        _apply_prefix_space(tokenizer, settings)
        if LISTED_TOKENS not in settings:
            settings[LISTED_TOKENS] = _older_tokens(path, tokenizer, settings)
        _add_tokens(tokenizer, kind, settings)
        tokenizer.encode_special_tokens = bool(settings.get("split_special_tokens", False))
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise BundleError(f"{path / TOKENIZER_CONFIG} has settings of a wrong type ({error}); correct it") from error
    _check_post_processor(tokenizer, file)
    _check_frame(tokenizer, kind, settings, path)
    return tokenizer


def read_settings(path: Path, tokenizer: Tokenizer) -> TokenizerSettings:
    """Read what the directory `path` says of windows. `tokenizer`: with its limits as saved. Raises: BundleError."""
    settings = _settings(path)
    kind = _kind(path, settings)
    names = settings.get("model_input_names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise BundleError(f"{path / TOKENIZER_CONFIG}: model_input_names must be a list of names; correct it")
    token_types = kind not in WITHOUT_TYPES if names is None else "token_type_ids" in names
    truncation = (tokenizer.truncation or {}).get("direction", "right")
    padding = (tokenizer.padding or {}).get("direction", "left" if kind in LEFT_PADDED else "right")
    return TokenizerSettings(
        token_types=token_types,
        truncation_side=_side(path, settings, "truncation_side", truncation),
        context_first=_side(path, settings, "padding_side", padding) == "left",
    )


def _settings(path: Path) -> Settings:
    """Read tokenizer_config.json and, as transformers does, special_tokens_map.json where the first lists no tokens."""
    settings = read_optional_json(path / TOKENIZER_CONFIG)
    files = settings.get("fast_tokenizer_files")
    if files not in (None, [TOKENIZER]):
        raise BundleError(
            f"{path / TOKENIZER_CONFIG}: fast_tokenizer_files names other files; only {TOKENIZER} is read; save it "
            "with transformers"
        )
    if LISTED_TOKENS not in settings:
        settings |= read_optional_json(path / SPECIAL_TOKENS_MAP)
    return settings


def _kind(path: Path, settings: Settings) -> str:
    """Name the class of the tokenizer as transformers chooses it, in the short form of the sets above."""
    config = read_optional_json(path / CONFIG)
    name = settings.get("tokenizer_class") or config.get("tokenizer_class")
    if name is None:
        return str(config.get("model_type")).replace("-", "").replace("_", "").lower()
    return str(name).removesuffix("Fast").removesuffix("Tokenizer").lower()


def _side(path: Path, settings: Settings, key: str, saved_side: str) -> Side:
    side = settings.get(key, saved_side.lower())
    if side not in ("right", "left"):
        raise BundleError(f"{path / TOKENIZER_CONFIG}: {key} must be right or left; correct it")
    return "left" if side == "left" else "right"


def _apply_normalizer(tokenizer: Tokenizer, kind: str, settings: Settings) -> None:
    normalizer = tokenizer.normalizer
    if kind not in BERT_KINDS or not isinstance(normalizer, normalizers.BertNormalizer):
        return
    normalizer.lowercase = settings.get("do_lower_case", True)
    normalizer.strip_accents = settings.get("strip_accents")
    if kind not in KEEP_CHINESE:
        normalizer.handle_chinese_chars = settings.get("tokenize_chinese_chars", True)
    tokenizer.normalizer = normalizer


def _apply_prefix_space(tokenizer: Tokenizer, settings: Settings) -> None:
    pre_tokenizer = tokenizer.pre_tokenizer
    if isinstance(pre_tokenizer, pre_tokenizers.ByteLevel):
        pre_tokenizer.add_prefix_space = bool(settings.get("add_prefix_space", False))
        tokenizer.pre_tokenizer = pre_tokenizer


def _add_tokens(tokenizer: Tokenizer, kind: str, settings: Settings) -> None:
    """Add the tokens that tokenizer_config.json lists and tokenizer.json does not, or with other flags."""
    saved_tokens = tokenizer.get_added_tokens_decoder().values()
    listed = settings.get(LISTED_TOKENS) or {}
    tokens = [_token(keys) for _, keys in sorted(listed.items(), key=lambda entry: int(entry[0]))]
    known = {repr(token) for token in saved_tokens}
    added_tokens = [token for token in tokens if repr(token) not in known]
    contents = {token.content for token in (*saved_tokens, *added_tokens)}
    extra = settings.get("extra_special_tokens") or []  # by name, and since transformers 5 in a list
    names = _special_tokens(settings)
    names += extra.values() if isinstance(extra, dict) else extra
    names += [name for name in DEFAULT_TOKENS.get(kind, ()) if tokenizer.token_to_id(name) is not None]
    masks = (settings.get("mask_token"), *DEFAULT_TOKENS.get(kind, ())[-1:]) if kind in MASK_STRIPS_LEFT else ()
    for name in filter(None, names):
        flags = {"lstrip": True} if isinstance(name, str) and name in masks else {}
        token = _token(name, special=True, **flags)
        if token.content not in contents:
            contents.add(token.content)
            added_tokens.append(token)
    if added_tokens:
        tokenizer.add_tokens(added_tokens)


def _older_tokens(path: Path, tokenizer: Tokenizer, settings: Settings) -> Settings:
    """Read the tokens of added_tokens.json, which transformers reads where tokenizer_config.json lists none; an id that
    tokenizer.json gives to an added token stays as it is there.
    """
    names = _special_tokens(settings)
    special = {name.get("content") if isinstance(name, dict) else name for name in names}
    saved_ids = tokenizer.get_added_tokens_decoder()
    return {
        str(number): {"content": content, "special": content in special, "normalized": content not in special}
        for content, number in read_optional_json(path / ADDED_TOKENS).items()
        if number not in saved_ids
    }


def _special_tokens(settings: Settings) -> list[Any]:  # of each its text, or its flags as saved
    return [settings.get(key) for key in SPECIAL_TOKENS] + list(settings.get("additional_special_tokens") or [])


def _token(saved: Any, **flags: bool) -> AddedToken:  # a text, or its flags as saved
    if not isinstance(saved, dict):
        return AddedToken(saved, **flags)
    return AddedToken(**({key: value for key, value in saved.items() if key != "__type"} | flags))


def _check_post_processor(tokenizer: Tokenizer, file: Path) -> None:
    """Encode a text and a pair: the library panics over a frame of tokens that it lacks. Raises: BundleError."""
    try:
        tokenizer.encode("a")
        tokenizer.encode("a", "b")
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic is no Exception, and its class cannot be imported
        raise BundleError(f"{file} has a post_processor that fails ({error}); restore the file") from error


def _check_frame(tokenizer: Tokenizer, kind: str, settings: Settings, path: Path) -> None:
    """Refuse settings of the frame that tokenizer.json does not follow. Raises: BundleError."""
    if kind in TRANSLATING_KINDS:
        raise BundleError(
            f"{path / TOKENIZER_CONFIG}: a tokenizer of the class {kind} puts marks of languages around a text, which "
            f"is not done here; set tokenizer_class to PreTrainedTokenizerFast if {TOKENIZER} has what the model needs"
        )
    ids = tokenizer.encode("").ids
    for key, name, found in (("add_bos_token", "bos_token", ids[:1]), ("add_eos_token", "eos_token", ids[-1:])):
        token = settings.get(name)
        content = token.get("content") if isinstance(token, dict) else token
        is_added = content is not None and found == [tokenizer.token_to_id(content)]
        has_default = kind in LLAMA_KINDS and content is not None
        asked = settings.get(key, kind != "gptneox" and key == "add_bos_token" if has_default else None)
        if asked is not None and bool(asked) != is_added and (asked or kind in LLAMA_KINDS):
            raise BundleError(
                f"{path / TOKENIZER_CONFIG} says {key}={asked} and {TOKENIZER} does otherwise; load the tokenizer with "
                "transformers' AutoTokenizer and save it again"
            )
