"""What reaches ``generate`` is what the harness's own command would hand it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.harness.parity import CARDS, TASKS, asked_for, equal

pytestmark = pytest.mark.slow
CELLS = [(harness, family) for harness in TASKS for family in CARDS if asked_for(harness, family)]


@pytest.mark.parametrize(("harness", "family"), CELLS)
@pytest.mark.parametrize("method", ["vanilla", "divprune"])
def test_ids_pixels_decoding_and_answers_are_those_of_the_harness_s_own_class(
    harness: str, family: str, method: str
) -> None:
    """In a process of its own: a harness changes the one that imports it."""
    words = [sys.executable, "-m", "tests.harness.parity", harness, family, method]
    found = subprocess.run(words, capture_output=True, check=True)
    tasks = json.loads(found.stdout)
    assert tasks.keys() == set(TASKS[harness])
    assert equal(tasks), tasks
