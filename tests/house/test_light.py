"""The light library: pruning a loaded model imports nothing that the extras bring."""

from __future__ import annotations

import os
import subprocess
import sys

from unibench.registry import ROOT

TOP = ROOT.parent
BLOCKED = (
    *("hydra", "omegaconf", "antlr4", "pandas", "pyarrow", "matplotlib", "seaborn", "statsmodels"),
    *("scikit_posthocs", "rich", "tabulate", "pylatexenc", "accelerate", "submitit", "ray"),
)
# scipy is transformers' own wish where it is installed, so it cannot be blocked, only not imported
PROGRAM = """
import sys

class Without:
    # a finder as if BLOCKED were not installed
    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        hidden = name.split(".")[0] in BLOCKED
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path]
import warnings
from pathlib import Path
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
import unibench

folder = Path(unibench.__file__).parent / "models" / "tiny" / "qwen2_5_vl"
model = AutoModelForImageTextToText.from_pretrained(folder)
processor = AutoProcessor.from_pretrained(folder)
turn = [{"type": "image"}, {"type": "text", "text": "What is drawn?"}]
text = processor.apply_chat_template(
    [{"role": "user", "content": turn}], add_generation_prompt=True
)
inputs = processor(text=text, images=[Image.new("RGB", (224, 224), "red")], return_tensors="pt")
before = model.generate(**inputs, max_new_tokens=4)
with unibench.prune(model, "divprune", ratio=0.889) as session:
    model.generate(**inputs, max_new_tokens=4)
(record,) = session.take_records()
print(record.visual_tokens, record.kept)
assert unibench.wrap(model, "fastv", keep=9, wrap=["cen_prune"] * 0) is model
model.generate(**inputs, max_new_tokens=4)
(record,) = unibench.unwrap(model).take_records()
print(record.visual_tokens, record.kept)
assert torch.equal(model.generate(**inputs, max_new_tokens=4), before)
"""


def test_pruning_needs_nothing_of_the_extras() -> None:
    run = subprocess.run(
        [sys.executable, "-c", f"BLOCKED = {BLOCKED}{PROGRAM}"],
        env={**os.environ, "PYTHONPATH": str(TOP), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    print(run.stdout)
