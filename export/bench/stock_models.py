"""Writes what other servers load for a bundle: its weights in PyTorch, and optimum's int8 of them."""

import logging
import shutil
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from models.tasks.bundle import Bundle, cpu_features, load_bundle
from models.tasks.errors import needs_extra, run_command
from models.tasks.options import Flag, Options, read_options

with needs_extra("python -m export.bench.stock_models", "train"):
    import torch
    from optimum.exporters.onnx import onnx_export_from_model
    from optimum.onnxruntime import ORTQuantizer
    from optimum.onnxruntime.configuration import AutoQuantizationConfig
    from transformers import AutoTokenizer
    from transformers.utils import logging as transformers_logging

    from export.bench.weights import read_model
    from models.finetune.recipes import RECIPES

FP32, STOCK = "fp32", "stock-int8"
INPUTS = ["input_ids", "attention_mask"]  # DistilBERT in PyTorch takes no token types
MODULES = ("modules.json", "sentence_bert_config.json", "1_Pooling")  # of sentence-transformers


@dataclass(frozen=True, slots=True, kw_only=True)
class StockModelsOptions(Options):
    """Write what other servers load in place of a bundle of ours.

    OUT/fp32 is a checkpoint with the bundle's weights, read back from int8. OUT/stock-int8 is optimum's export of it,
    quantized as `optimum-cli onnxruntime quantize` does by its own defaults: per tensor, products of activations too.
    """

    bundle: Annotated[Path, Flag("the bundle", metavar="BUNDLE", positional=True)] = Path("bundles/qa")
    out: Annotated[Path, Flag("directory to write into", metavar="DIR")]


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m export.bench.stock_models") -> int:
    return run_command(prog, run, prog, argv)


def run(prog: str, argv: Sequence[str] | None) -> None:
    """Raises: BundleError, ExportError."""
    options = read_options(StockModelsOptions, prog, argv)
    transformers_logging.set_verbosity_error()
    logging.getLogger("optimum").setLevel(logging.ERROR)
    write(load_bundle(options.bundle), options.out)


def write(bundle: Bundle, out: Path) -> None:
    """Write both models; the directories are complete once they have their names."""
    unfinished = out / "unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    fp32, exported, stock = (unfinished / name for name in (FP32, "exported", STOCK))
    model, tokenizer = read_model(bundle), AutoTokenizer.from_pretrained(bundle.path, model_input_names=INPUTS)
    for directory in (fp32, stock):
        directory.mkdir(parents=True)
        tokenizer.save_pretrained(directory)
        for name in MODULES:
            if (bundle.path / name).is_dir():
                shutil.copytree(bundle.path / name, directory / name)
            elif (bundle.path / name).exists():
                shutil.copy(bundle.path / name, directory / name)
    model.save_pretrained(fp32)
    model.config.save_pretrained(stock)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]  # its own name hides it
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch's older exporter, which is optimum's choice
        onnx_export_from_model(model, output=exported, task=RECIPES[bundle.task].optimum_task, do_validation=False)
    features = cpu_features()
    has_vnni = "avx512_vnni" in features or "avx_vnni" in features
    preset = AutoQuantizationConfig.avx512_vnni if has_vnni else AutoQuantizationConfig.avx2
    quantizer = ORTQuantizer.from_pretrained(exported, file_name="model.onnx")
    quantizer.quantize(save_dir=stock / "onnx", quantization_config=preset(is_static=False, per_channel=False))
    for name in (FP32, STOCK):
        shutil.rmtree(out / name, ignore_errors=True)
        (unfinished / name).rename(out / name)
    shutil.rmtree(unfinished)


if __name__ == "__main__":
    sys.exit(main())
