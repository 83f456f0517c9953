import subprocess
import sys
from pathlib import Path

import pytest

from models.tasks.directory.files import BundleError
from service.app import create_app
from service.settings import Settings

WITHOUT_TRAINING = """
import sys
for name in ("torch", "transformers", "optimum", "onnx"):
    sys.modules[name] = None  # importing it raises ImportError
import service.app, service.__main__
"""


def test_the_service_needs_no_training_library() -> None:
    child = subprocess.run([sys.executable, "-c", WITHOUT_TRAINING], capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr


def test_without_bundles_there_is_no_application(tmp_path: Path) -> None:
    with pytest.raises(BundleError):
        create_app(Settings(bundles=tmp_path))
