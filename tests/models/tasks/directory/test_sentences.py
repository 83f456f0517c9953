"""sentence-transformers' files: what is honoured, and what is refused in one line."""

import json
from pathlib import Path

import pytest

from models.tasks.directory.files import BundleError
from models.tasks.directory.overrides import Overrides
from models.tasks.directory.sentences import (
    Dense,
    Head,
    Normalize,
    Preparation,
    check_prompts,
    check_similarity,
    read_head,
    read_preparation,
    write_head,
)

OLD, NEW = "sentence_transformers.models", "sentence_transformers.sentence_transformer.modules.pooling"
FLAGS = {"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}
TANH = "torch.nn.modules.activation.Tanh"
DENSE = {"in_features": 4, "out_features": 2, "bias": True, "activation_function": TANH}


def write(path: Path, content: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def modules(path: Path, *kinds: str, prefix: str = OLD) -> None:
    """The first lies in the directory itself, the others each in a folder of its number and kind."""
    folders = ["", *(f"{number}_{kind}" for number, kind in enumerate(kinds[1:], start=1))]
    entries = [{"path": folder, "type": f"{prefix}.{kind}"} for kind, folder in zip(kinds, folders, strict=True)]
    write(path / "modules.json", entries)


def head(path: Path) -> Head | None:
    return read_head(path, Overrides())


def test_nothing_is_known_without_a_file(tmp_path: Path) -> None:
    assert head(tmp_path) is None
    assert read_preparation(tmp_path) == Preparation()


@pytest.mark.parametrize(
    ("pooling", "modes"),
    [
        (FLAGS, ("mean",)),
        (FLAGS | {"pooling_mode_cls_token": True}, ("cls", "mean")),
        (FLAGS | {"pooling_mode_mean_tokens": False, "pooling_mode_max_tokens": True}, ("max",)),
        (FLAGS | {"pooling_mode_mean_tokens": False, "pooling_mode_weightedmean_tokens": True}, ("weightedmean",)),
        ({"pooling_mode": "lasttoken"}, ("lasttoken",)),
        ({"embedding_dimension": 4, "pooling_mode": ["max", "cls"]}, ("max", "cls")),
        ({}, ("mean",)),
    ],
)
def test_the_pooling_is_that_of_its_folder(tmp_path: Path, pooling: dict[str, object], modes: tuple[str, ...]) -> None:
    write(tmp_path / "1_Pooling" / "config.json", pooling)
    assert head(tmp_path) == Head(modes)  # type: ignore[arg-type]  # their names
    modules(tmp_path, "Transformer", "Pooling", prefix=NEW)
    assert head(tmp_path) == Head(modes, ())  # type: ignore[arg-type]


def test_the_folder_is_the_one_that_modules_name(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", FLAGS)
    write(tmp_path / "pool" / "config.json", {"pooling_mode": "cls"})
    entries = [{"path": "", "type": f"{OLD}.Transformer"}, {"path": "pool", "type": f"{OLD}.Pooling"}]
    write(tmp_path / "modules.json", entries)
    assert head(tmp_path) == Head(("cls",), ())


def test_an_override_decides_over_the_pooling_alone(tmp_path: Path) -> None:
    overrides = Overrides(pooling="max")
    assert read_head(tmp_path, overrides) == Head(("max",))
    modules(tmp_path, "Transformer", "Pooling", "Normalize")  # without the folder of the pooling
    assert read_head(tmp_path, overrides) == Head(("max",), (Normalize(),))


def test_layers_stand_in_their_order(tmp_path: Path) -> None:
    modules(tmp_path, "Transformer", "Pooling", "Dense", "Dropout", "Normalize", "Dense")
    write(tmp_path / "1_Pooling" / "config.json", FLAGS)
    write(tmp_path / "2_Dense" / "config.json", DENSE)
    write(tmp_path / "5_Dense" / "config.json", {"activation_function": "torch.nn.modules.linear.Identity"})
    layers = (Dense(tmp_path / "2_Dense", "Tanh"), Normalize(), Dense(tmp_path / "5_Dense", "Identity"))
    assert head(tmp_path) == Head(("mean",), layers)
    remedy = "which is served only if the graph holds it; export the model with halfdepth export$"
    with pytest.raises(BundleError, match=rf"modules\.json asks for Dense, {remedy}"):
        read_head(tmp_path, Overrides(), can_weigh=False)


def test_layers_without_weights_need_none(tmp_path: Path) -> None:
    modules(tmp_path, "Transformer", "Pooling", "Normalize")
    write(tmp_path / "1_Pooling" / "config.json", FLAGS)
    assert read_head(tmp_path, Overrides(), can_weigh=False) == Head(("mean",), (Normalize(),))


@pytest.mark.parametrize("modes", [("cls",), ("cls", "max"), ("max", "cls")])
def test_what_is_written_is_read_again(tmp_path: Path, modes: tuple[str, ...]) -> None:
    dense = write(tmp_path / "theirs" / "config.json", DENSE).parent
    (tmp_path / "ours").mkdir()
    layers = (Normalize(), Dense(dense, "Tanh"))
    write_head(tmp_path / "ours", Head(modes, layers), 4)  # type: ignore[arg-type]  # their names
    copy = Dense(tmp_path / "ours" / "3_Dense", "Tanh")
    assert head(tmp_path / "ours") == Head(modes, (Normalize(), copy))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"1_Pooling/config.json": {"pooling_mode": ["median", "mode"]}}, "median, mode is not known; it may be cls,"),
        ({"1_Pooling/config.json": {"pooling_mode_median": True}}, "pooling pooling_mode_median is not known"),
        ({"1_Pooling/config.json": {"pooling_mode": 3}}, "pooling 3 is not known"),
        (
            {"1_Pooling/config.json": {"pooling_mode_cls_token": True}},
            "without pooling_mode_mean_tokens, versions of the library pool differently; add it, true or false$",
        ),
        ({"1_Pooling/config.json": []}, "must hold a JSON object"),
        (
            {
                "1_Pooling/config.json": FLAGS | {"include_prompt": False},
                "config_sentence_transformers.json": {"prompts": {"query": "query: "}},
            },
            "leaves prompts out of the pooling .include_prompt., which cannot be done here$",
        ),
        (
            {"1_Pooling/config.json": FLAGS, "2_Dense/config.json": DENSE},
            "missing, which says what 2_Dense is for; restore it$",
        ),
        ({"modules.json": {}}, "is not a list of modules: it is empty; restore it$"),
        ({"modules.json": [3]}, r"is not a list of modules \(.*\); restore it$"),
        (
            {"modules.json": [{"path": "", "type": "custom_st.Transformer"}]},
            "custom_st.Transformer, which is code of the model's own; use another model$",
        ),
        (
            {"modules.json": [{"path": "0_Transformer", "type": f"{OLD}.Transformer"}]},
            "module is a Transformer in 0_Transformer; it must be a Transformer in the directory itself$",
        ),
        ({"modules.json": [{"path": "../x", "type": f"{OLD}.Transformer"}]}, "lies outside the directory; correct it$"),
        (
            {"modules.json": [{"path": "", "type": f"{OLD}.Transformer"}]},
            "lists no Pooling; name the pooling in .*halfdepth.json$",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_in_one_line(tmp_path: Path, files: dict[str, object], words: str) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(BundleError, match=words) as caught:
        head(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["WordEmbeddings", "CLIPModel", "LSTM", "StaticEmbedding", "Router", "BoW", "CNN"])
def test_a_first_module_of_another_kind_is_refused(tmp_path: Path, kind: str) -> None:
    modules(tmp_path, kind, "Pooling")
    with pytest.raises(BundleError, match=rf"modules\.json: the first module is a {kind}.* Transformer"):
        head(tmp_path)


@pytest.mark.parametrize("kind", ["WeightedLayerPooling", "WordWeights", "LSTM", "LayerNorm", "SpladePooling"])
def test_a_later_module_of_another_kind_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    modules(tmp_path, "Transformer", kind, "Pooling", "Zoom")
    remedy = "use a model of a Transformer, a Pooling, and Dense or Normalize behind it$"
    with pytest.raises(BundleError, match=rf"json asks for .*{kind}, .*Zoom, which cannot be served; {remedy}"):
        head(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"activation_function": "torch.nn.modules.activation.Mish"}, "may be Identity, Tanh, .*, GELU, and not Mish$"),
        ({"activation_function": "theirs.Tanh"}, "activation_function may be"),
        ({"use_residual": True}, "use_residual is not supported; remove it if the model does without$"),
        ({"module_input_name": "token_embeddings"}, "module_input_name is not supported"),
    ],
)
def test_a_dense_that_does_more_is_refused(tmp_path: Path, change: dict[str, object], words: str) -> None:
    modules(tmp_path, "Transformer", "Pooling", "Dense")
    write(tmp_path / "1_Pooling" / "config.json", FLAGS)
    file = write(tmp_path / "2_Dense" / "config.json", DENSE | change)
    with pytest.raises(BundleError, match=f"^{file}: .*{words}"):
        head(tmp_path)


def test_the_settings_of_texts_are_read(tmp_path: Path) -> None:
    settings = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query"}
    write(tmp_path / "config_sentence_transformers.json", settings)
    write(tmp_path / "sentence_roberta_config.json", {"max_seq_length": 20, "do_lower_case": True})
    preparation = read_preparation(tmp_path)
    assert preparation == Preparation({"query": "query: ", "document": ""}, "query", True, 20)
    assert preparation.prepare(" Who? \n") == "query:  who?"
    assert preparation.prepare(" Who? \n", "document") == "who?"


def test_the_default_may_be_a_prompt_that_the_library_has_in_every_model(tmp_path: Path) -> None:
    write(tmp_path / "config_sentence_transformers.json", {"prompts": {}, "default_prompt_name": "query"})
    assert read_preparation(tmp_path) == Preparation()


NEUTRAL = {
    "transformer_task": "feature-extraction",
    "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
    "module_output_name": "token_embeddings",
    "model_args": {},
    "tokenizer_args": None,
}


def test_settings_that_ask_for_nothing_are_passed_over(tmp_path: Path) -> None:
    write(tmp_path / "sentence_bert_config.json", NEUTRAL)
    assert read_preparation(tmp_path) == Preparation()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("sentence_bert_config.json", {"max_seq_length": "9"}, "length must be a number of tokens; correct it$"),
        ("sentence_bert_config.json", {"do_lower_case": "yes"}, "do_lower_case must be true or false; correct it$"),
        ("sentence_bert_config.json", {"tokenizer_args": {"a": 1}}, "tokenizer_args is not supported"),
        ("sentence_bert_config.json", {"transformer_task": "fill-mask"}, "transformer_task is not supported"),
        ("config_sentence_transformers.json", {"prompts": ["query: "]}, "must be texts by their names; correct them$"),
        ("config_sentence_transformers.json", {"prompts": {"query": None}}, "prompts must be texts by their names"),
        (
            "config_sentence_transformers.json",
            {"default_prompt_name": "ask"},
            "'ask' is not among the prompts; correct it$",
        ),
        ("config_sentence_transformers.json", {"default_prompt_name": ["ask"]}, r"\['ask'\] is not among the prompts"),
        ("config_sentence_transformers.json", {"model_type": "SparseEncoder"}, "gives no sentence embeddings; use an"),
    ],
)
def test_settings_of_texts_that_cannot_be_honoured_are_refused(
    tmp_path: Path, name: str, content: object, words: str
) -> None:
    file = write(tmp_path / name, content)
    with pytest.raises(BundleError, match=f"^{file}: .*{words}"):
        read_preparation(tmp_path)


def test_vectors_are_compared_by_their_cosine_or_not_at_all(tmp_path: Path) -> None:
    modules(tmp_path, "Transformer", "Pooling", "Normalize")
    write(tmp_path / "1_Pooling" / "config.json", FLAGS)
    for name in (None, "cosine", "dot"):
        write(tmp_path / "config_sentence_transformers.json", {"similarity_fn_name": name})
        check_similarity(tmp_path, Overrides())
    modules(tmp_path, "Transformer", "Pooling")
    reason = "but vectors are served at unit length, for their cosine; set it to cosine if that is what you want$"
    for name in ("dot", "euclidean", "manhattan"):
        write(tmp_path / "config_sentence_transformers.json", {"similarity_fn_name": name})
        with pytest.raises(BundleError, match=f"similarity_fn_name is '{name}', {reason}"):
            check_similarity(tmp_path, Overrides())


def test_a_graph_that_pools_prompts_is_refused_where_the_files_leave_them_out(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True, "include_prompt": False})
    check_prompts(tmp_path, Preparation(prompts={"query": ""}))
    with pytest.raises(BundleError, match=r"leaves prompts out of the pooling \(include_prompt\), which cannot be"):
        check_prompts(tmp_path, Preparation(prompts={"query": "query: "}))


def test_a_pooling_that_is_switched_off_is_not_the_mean(tmp_path: Path) -> None:
    write(tmp_path / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": False})
    with pytest.raises(BundleError, match=r"switches every pooling off; set one of its keys to true$"):
        read_head(tmp_path, Overrides())
