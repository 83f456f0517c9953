"""A model that does not suit a training is told in one line, before the first step."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForQuestionAnswering,
    AutoModelForSequenceClassification,
    BertConfig,
    GPT2Config,
)

from models.tasks.directory.files import BundleError
from models.teachers import ModelError, check_is_whole, check_kind, load_config, load_model, load_tokenizer


def test_what_cannot_be_loaded_is_told_in_one_line_whatever_the_library_raised(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent/model is neither a directory nor a name on the Hugging Face Hub$"):
        load_config(str(tmp_path / "absent" / "model"))
    (tmp_path / "config.json").write_text('{"model_type": "no-such-type"}')
    (tmp_path / "tokenizer.json").write_text("{}")
    for load in (load_config, load_tokenizer):
        with pytest.raises(ModelError) as caught:
            load(str(tmp_path))
        assert str(caught.value).startswith(f"{tmp_path} cannot be loaded: ")
        assert "\n" not in str(caught.value)


def test_a_model_is_a_directory_with_a_configuration_that_names_its_kind(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=rf"^{tmp_path} has no config\.json; name the directory that holds it"):
        load_config(str(tmp_path))
    config = tmp_path / "config.json"
    config.write_text('{"hidden_size": 32}')
    with pytest.raises(ModelError, match=r"config\.json has no model_type; set it to one of albert, bert, "):
        load_config(str(tmp_path))
    for load in (load_config, load_tokenizer):
        with pytest.raises(ModelError, match=r"config\.json is a file; name the directory that holds the model's"):
            load(str(config))


def test_a_directory_without_a_tokenizer_is_told(tmp_path: Path, tiny_teacher: Path) -> None:
    for file in ("config.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(tiny_teacher / file, tmp_path)
    with pytest.raises(ModelError, match=rf"^{tmp_path} has no tokenizer \(tokenizer\.json\); save that of the model "):
        load_tokenizer(str(tmp_path))


def test_a_configuration_without_an_object_or_its_numbers_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    config.write_text("[]")
    with pytest.raises(BundleError, match=rf"^{config} must hold a JSON object; restore it$"):
        load_config(str(tmp_path))
    config.write_text('{"model_type": "distilbert", "n_layers": "6", "dim": 32.0}')
    with pytest.raises(ModelError, match=r"config\.json must have a whole number as hidden_size and num_hidden_layers"):
        load_config(str(tmp_path))


def test_a_head_that_was_never_trained_is_refused_where_one_is_needed(tiny_teacher: Path) -> None:
    with pytest.raises(
        ModelError, match=r"has no trained head for the task any \(qa_outputs\.bias, .*fine-tune it first"
    ):
        load_model(str(tiny_teacher), AutoModelForQuestionAnswering, head_for="any")
    load_model(str(tiny_teacher), AutoModelForQuestionAnswering)


def test_a_pooler_is_a_part_of_a_classifier_and_not_of_an_encoder(tmp_path: Path, tiny_teacher: Path) -> None:
    AutoModel.from_pretrained(tiny_teacher, add_pooling_layer=False).save_pretrained(tmp_path)
    load_model(str(tmp_path), AutoModel)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path)
    state = {name: weight for name, weight in classifier.state_dict().items() if "pooler" not in name}
    classifier.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ModelError, match=r"has no trained head for the task any \(bert\.pooler"):
        load_model(str(tmp_path), AutoModelForSequenceClassification, head_for="any")


def test_an_encoder_that_transformers_would_make_up_is_refused(tmp_path: Path, tiny_teacher: Path) -> None:
    model = AutoModel.from_pretrained(tiny_teacher)
    state = {name: weight for name, weight in model.state_dict().items() if "layer.1" not in name}
    model.save_pretrained(tmp_path, state_dict=state)
    with pytest.raises(ModelError, match=r"lacks weights of its encoder: .*layer\.1"):
        load_model(str(tmp_path), AutoModelForQuestionAnswering)
    with torch.no_grad():
        model.embeddings.word_embeddings = torch.nn.Embedding(7, 32)
    model.save_pretrained(tmp_path)
    load_config(str(tiny_teacher)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"word_embeddings\.weight has another shape than config\.json gives it"):
        load_model(str(tmp_path), AutoModelForQuestionAnswering)


def test_a_head_of_another_number_of_labels_is_replaced_only_where_it_is_trained_anew(
    tmp_path: Path, tiny_teacher: Path
) -> None:
    classifier = AutoModelForSequenceClassification.from_pretrained(tiny_teacher, num_labels=3)
    classifier.save_pretrained(tmp_path)
    config = load_config(str(tmp_path))
    config.num_labels = 2
    load_model(str(tmp_path), AutoModelForSequenceClassification, config=config)
    with pytest.raises(ModelError, match=r"classifier\.(weight|bias) has another shape than config\.json"):
        load_model(str(tmp_path), AutoModelForSequenceClassification, config=config, head_for="any")


def test_only_encoders_of_known_kinds_are_trained() -> None:
    check_kind("tiny", BertConfig())
    with pytest.raises(ModelError, match="tiny is of kind 'gpt2'; the kinds are albert, bert, camembert"):
        check_kind("tiny", GPT2Config())


def test_an_adapter_and_code_of_a_models_own_are_refused(tmp_path: Path) -> None:
    check_is_whole(str(tmp_path), {"auto_map": {"AutoTokenizer": ["tokenization.Own", None]}})
    with pytest.raises(ModelError, match=r"brings code of its own \(auto_map in config\.json\)"):
        check_is_whole(str(tmp_path), {"auto_map": {"AutoModelForSequenceClassification": "modeling.Own"}})
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"has an adapter \(adapter_config\.json\), which is not loaded; merge it"):
        check_is_whole(str(tmp_path), {})
