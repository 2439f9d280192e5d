"""The wheel: what it carries, and what it does in an empty environment with other releases."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from unibench.registry import ROOT

TOP = ROOT.parent
pytestmark = pytest.mark.slow
MOST = 5  # packages beside those of torch and transformers
PROGRAM = """
from pathlib import Path
import torch, transformers, unibench
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

folder = Path(unibench.__file__).parent / "models" / "tiny" / "qwen2_5_vl"
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
turn = [{"type": "image"}, {"type": "text", "text": "What is drawn?"}]
text = processor.apply_chat_template([{"role": "user", "content": turn}], add_generation_prompt=True)
inputs = processor(text=text, images=[Image.new("RGB", (224, 224), "red")], return_tensors="pt")
with unibench.prune(model, "divprune", ratio=0.889) as session:
    model.generate(**inputs, max_new_tokens=4)
print(session.take_records()[0].kept, torch.__version__, transformers.__version__)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution as the index would get it."""
    ready = sorted((TOP / "dist").glob("*.whl"))
    if os.environ.get("UNIBENCH_WHEEL") and ready:  # make test-wheel has built it
        return ready[-1]
    pytest.importorskip("build", reason="make test installs it")
    out = tmp_path_factory.mktemp("dist")
    run = subprocess.run(
        [sys.executable, "-m", "build", "-q", "--outdir", out, TOP], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    (found,) = out.glob("*.whl")
    return found


def test_twine_accepts_it(wheel: Path) -> None:
    pytest.importorskip("twine", reason="make test installs it")
    command = [sys.executable, "-m", "twine", "check", "--strict", wheel]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout


def test_it_carries_tables_models_and_cards_and_no_training(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in (
        "unibench/published/uniprunebench_table1.csv",
        "unibench/published/as_printed/uniprunebench_table1.csv",
        "unibench/published/layouts.yaml",
        "unibench/models/tiny/qwen2_5_vl/model.safetensors",
        "unibench/configs/task/pope.yaml",
        "unibench/methods/divprune.py",
        "unibench/references.yaml",
        "unibench/py.typed",
    ):
        assert name in names
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"unibench"}
    assert wheel.name.startswith("unibench_pruning-")


@pytest.fixture(scope="module")
def empty(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """An environment with torch, transformers and the wheel, and how many packages that added."""
    given = os.environ.get("UNIBENCH_EMPTY_VENV")  # one that has torch and transformers already
    place = Path(given) if given else tmp_path_factory.mktemp("empty") / "venv"
    python = place / "bin" / "python"
    if not given:
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        pip(python, "install", "torch", "transformers")
    pip(python, "uninstall", "-y", "unibench-pruning")
    before = packages(python)
    pip(python, "install", str(wheel))
    return python, len(packages(python) - before)


def pip(python: Path, *words: str) -> str:
    command = [python, "-m", "pip", "--disable-pip-version-check", "-q", *words]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


def packages(python: Path) -> set[str]:
    return {line.split("==")[0] for line in pip(python, "freeze").splitlines()}


def test_it_adds_few_packages_and_prunes_in_three_lines(
    empty: tuple[Path, int], tmp_path: Path
) -> None:
    python, added = empty
    assert added <= MOST
    clean = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    run = subprocess.run(
        [python, "-c", PROGRAM], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert int(run.stdout.split()[0]) > 0
