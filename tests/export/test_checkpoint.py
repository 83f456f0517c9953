"""What may be exported, and what is known of it."""

import json
import re
import shutil
from pathlib import Path

import pytest

from export.checkpoint import ExportError, load_finetuned
from models.data import DataError
from models.tasks.directory.files import BundleError
from models.teachers import ModelError


@pytest.fixture
def checkpoint(tiny_qa: dict[str, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_qa["bert"], tmp_path / "checkpoint"))


def test_tokenizer_neither_cuts_nor_pads_and_leaves_no_trace_of_it(checkpoint: Path, tmp_path: Path) -> None:
    shipped = json.loads((checkpoint / "tokenizer.json").read_text())
    assert shipped["truncation"]["max_length"] == 128
    loaded = load_finetuned(checkpoint, "qa")
    loaded.tokenizer.save_pretrained(tmp_path / "saved", legacy_format=False)
    saved = json.loads((tmp_path / "saved" / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (None, None)
    config = json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())
    assert config["model_max_length"] == 512
    assert not {"max_length", "stride", "truncation_strategy"} & set(config)


@pytest.mark.parametrize(("stated", "kept"), [(128, 128), (1024, 512), (10**30, 512)])
def test_what_the_tokenizers_settings_allow_is_kept_up_to_the_models_positions(
    checkpoint: Path, stated: int, kept: int
) -> None:
    settings = json.loads((checkpoint / "tokenizer_config.json").read_text()) | {"model_max_length": stated}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    assert load_finetuned(checkpoint, "qa").tokenizer.model_max_length == kept


def test_record_says_what_the_model_is_and_where_it_came_from(checkpoint: Path) -> None:
    training = {
        "command": "python -m models.finetune",
        "seed": 3,
        "seconds": 60,
        "source": "encoder",
        "data": [{"name": "a.json", "sha256": "0" * 64, "bytes": 9}],
        "metrics": {"dev.json": {"f1": 80.0}},
    }
    (checkpoint / "training.json").write_text(json.dumps(training))
    loaded = load_finetuned(checkpoint, "qa")
    record = loaded.record()
    assert (record.name, record.architecture) == ("checkpoint", "BertForQuestionAnswering")
    assert (record.layers, record.hidden_size) == (2, 32)
    assert record.parameters == sum(weights.numel() for weights in loaded.model.parameters())
    assert record.bytes == (checkpoint / "model.safetensors").stat().st_size
    assert record.training is not None
    assert (record.training.seed, record.training.source) == (3, "encoder")


def test_checkpoint_without_a_record_of_its_training_is_taken(checkpoint: Path) -> None:
    assert load_finetuned(checkpoint, "qa").record().training is None


def test_unsupported_kind_is_refused_with_what_is_supported(checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(ExportError, match="'t5' is not supported; supported are albert, bert, camembert, deberta-v2, "):
        load_finetuned(checkpoint, "qa")


def test_encoder_without_a_trained_head_is_refused(tiny_teacher: Path) -> None:
    with pytest.raises(ModelError, match="has no trained head for the task qa"):
        load_finetuned(tiny_teacher, "qa")


def test_a_model_is_not_traced_in_chunks(checkpoint: Path) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | {"chunk_size_feed_forward": 1}))
    assert load_finetuned(checkpoint, "qa").model.config.chunk_size_feed_forward == 0


def test_adapter_is_not_left_out(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    with pytest.raises(ModelError, match="has an adapter"):
        load_finetuned(checkpoint, "qa")


@pytest.mark.parametrize(
    "settings", [{"tokenizer_class": "TokenizersBackend"}, {"extra_special_tokens": ["[CODE]", "[MATH]"]}]
)
def test_tokenizer_as_only_transformers_5_reads_it_is_refused_in_one_line(
    checkpoint: Path, settings: dict[str, object]
) -> None:
    saved = json.loads((checkpoint / "tokenizer_config.json").read_text())
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(saved | settings))
    with pytest.raises(ExportError, match=r"or export with the transformers that saved it$") as caught:
        load_finetuned(checkpoint, "qa")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"num_hidden_layers": 3}, "lacks weights of its encoder: bert.encoder.layer.2."),
        (
            {"intermediate_size": 32},
            "bert.encoder.layer.0.intermediate.dense.bias has another shape than config.json gives it",
        ),
    ],
)
def test_weights_that_do_not_fit_the_configuration_are_named(
    checkpoint: Path, change: dict[str, object], told: str
) -> None:
    config = json.loads((checkpoint / "config.json").read_text())
    (checkpoint / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=re.escape(told)):
        load_finetuned(checkpoint, "qa")


def test_what_is_no_checkpoint_is_told(checkpoint: Path) -> None:
    for path in (Path("owner/name"), checkpoint / "config.json"):
        with pytest.raises(ExportError, match=f"^{path} is not a directory; give that of a transformers checkpoint$"):
            load_finetuned(path, "qa")
    for path in (*checkpoint.glob("tokenizer*"), *checkpoint.glob("vocab*")):
        path.unlink()
    with pytest.raises(
        ModelError, match=rf"^{checkpoint} has no tokenizer \(tokenizer\.json\); save that of the model"
    ):
        load_finetuned(checkpoint, "qa")


def test_broken_checkpoint_is_refused_in_one_line_that_names_it(checkpoint: Path) -> None:
    (checkpoint / "training.json").write_text("{}")
    with pytest.raises(DataError, match=r"training\.json: command: Field required; correct the file or remove it"):
        load_finetuned(checkpoint, "qa")
    (checkpoint / "tokenizer.json").write_text("{")
    with pytest.raises(ExportError, match="cannot read the tokenizer") as caught:
        load_finetuned(checkpoint, "qa")
    assert "\n" not in str(caught.value)
    (checkpoint / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(ModelError, match="cannot be loaded: Error while deserializing header"):
        load_finetuned(checkpoint, "qa")
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(ExportError, match="holds no weights"):
        load_finetuned(checkpoint, "qa")
    (checkpoint / "config.json").unlink()
    with pytest.raises(BundleError, match=r"config\.json is missing; copy it from the model's checkpoint"):
        load_finetuned(checkpoint, "qa")
