"""The prompts that the harnesses and their rules for model families make are the pinned ones."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

PINNED = Path(__file__).parent / "pinned"


@pytest.mark.slow
@pytest.mark.parametrize("harness", ["vlmevalkit", "lmms_eval"])
def test_prompts_are_the_pinned_ones(harness: str) -> None:
    found = subprocess.run(
        [sys.executable, "-m", "tests.harness.prompts", harness], capture_output=True, check=True
    )
    assert json.loads(found.stdout) == json.loads(
        (PINNED / f"{harness}.json").read_text(encoding="utf-8")
    )


def test_families_with_rules_of_their_own_read_other_prompts() -> None:
    pinned = json.loads((PINNED / "vlmevalkit.json").read_text(encoding="utf-8"))["MMStar"]
    assert len(set(pinned.values())) == 3  # LLaVA's form and InternVL's are the same here
    assert pinned["qwen"].endswith("Please select the correct answer from the options above.")
    assert pinned["internvl"].endswith(
        "Answer with the option's letter from the given choices directly."
    )
