"""Cells that share one vision pass answer and choose as those that do not; memory that runs out
halves the batch once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.turns import some_of
from tests.support.workers import grid
from unibench.inference import ask as evaluation
from unibench.inference.features import FeatureCache, digest_of
from unibench.pruning.family import VisionCall
from unibench.runner import Embedded, Outcome, work
from unibench.store import CellFolder
from unibench.store.index import FEATURES

# looks at nothing inside the tower; at its attention; at its hidden states
METHODS = "method=divprune,fastv,visionzip,hiprune"
ASKED = 6  # questions about two pictures: five abilities are asked about each
LIMIT = f"task.limit={ASKED}"
TIMES = ("total_ms", "vision_ms", "prefill_ms", "method_ms", "decode_ms", "run")


def samples(outcome: Outcome) -> dict[str, list[dict[str, Any]]]:
    found = {}
    for row in outcome.rows.values():
        lines = (Path(row.folder) / "samples.jsonl").read_text().splitlines()
        found[row.method] = [
            {key: value for key, value in json.loads(line).items() if key not in TIMES}
            for line in lines
        ]
    return found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    return samples(work(grid(tmp_path_factory.mktemp("own"), METHODS, LIMIT)))


@some_of("share", ["disk", "memory"], 2)
def test_shared_features_change_no_answer_and_no_count(
    tmp_path: Path, own: dict[str, list[dict[str, Any]]], share: str
) -> None:
    embedded = Embedded()
    cells = grid(tmp_path, METHODS, LIMIT, "timing=false", f"share={share}")
    outcome = work(cells, executors={"embedded": embedded})
    assert samples(outcome) == own and len(own) == 5
    features = embedded._features
    assert features is not None and features.computed == 2
    assert features.remembered == 3 * ASKED - 2, (
        "of vanilla, divprune and fastv; methods that look inside the tower run it themselves"
    )
    for row in outcome.rows.values():
        assert row.vision_ms is row.prefill_ms is row.total_s is None
    assert len(list((tmp_path / FEATURES).rglob("*.safetensors"))) == (2 if share == "disk" else 0)


@pytest.mark.parametrize(
    ("model", "share"),
    [
        ("tiny_llava", "memory"),
        pytest.param("tiny_internvl", "disk", marks=pytest.mark.slow),
        pytest.param("tiny_llava", "disk", marks=pytest.mark.slow),
        pytest.param("tiny_internvl", "memory", marks=pytest.mark.slow),
    ],
)
def test_every_family_shares(tmp_path: Path, model: str, share: str) -> None:
    words = (f"model={model}", "method=divprune", "task.limit=4")
    alone = samples(work(grid(tmp_path / "alone", *words)))
    embedded = Embedded()
    together = work(
        grid(tmp_path / "shared", *words, "timing=false", f"share={share}"),
        executors={"embedded": embedded},
    )
    assert not together.failures and samples(together) == alone
    assert (
        embedded._features is not None
        and embedded._features.remembered == 2 * 4 - embedded._features.computed > 0
    )


def test_features_on_disk_serve_another_process_and_damaged_ones_are_computed_again(
    tmp_path: Path, own: dict[str, list[dict[str, Any]]]
) -> None:
    options = (LIMIT, "timing=false", "share=disk")
    work(grid(tmp_path, "method=vanilla", *options))
    (first, *_) = (tmp_path / FEATURES).rglob("*.safetensors")
    first.write_bytes(first.read_bytes()[:100])
    embedded = Embedded()
    outcome = work(grid(tmp_path, "method=divprune", *options), executors={"embedded": embedded})
    assert samples(outcome)["divprune"] == own["divprune"]
    assert embedded._features is not None and (
        embedded._features.computed,
        embedded._features.remembered,
    ) == (1, ASKED - 1)


def test_choices_are_the_same_token_by_token(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: dict[str, list[Any]] = {}
    plain = evaluation.Session.take_records

    def noted(session: Any) -> Any:
        chosen.setdefault(current, []).append(
            [
                choice and choice.origin.tolist()
                for choices in session.prompt.choices
                for choice in choices
            ]
        )
        return plain(session)

    monkeypatch.setattr(evaluation.Session, "take_records", noted)
    for current in ("own", "shared"):
        options = ("timing=false", "share=memory") if current == "shared" else ()
        work(grid(tmp_path / current, "method=divprune,fastv,random_pre", "task.limit=3", *options))
    assert chosen["own"] == chosen["shared"] and len(chosen["own"]) == 12
    assert any(any(choices) for choices in chosen["own"])


def test_what_does_not_fit_is_computed_each_time(
    tmp_path: Path, own: dict[str, list[dict[str, Any]]]
) -> None:
    embedded = Embedded()
    embedded._features = cache = FeatureCache(torch.device("cpu"), 0, None)
    cells = grid(tmp_path, "method=divprune", LIMIT, "timing=false", "share=memory")
    embedded.model_of(cells[0])
    embedded._features = cache
    assert samples(work(cells, executors={"embedded": embedded}))["divprune"] == own["divprune"]
    assert (cache.computed, cache.remembered) == (2 * ASKED, 0)


def test_features_of_other_pixels_are_others() -> None:
    pixels = torch.rand(4, 6)
    calls = [
        {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 2, 2]])},
        {"pixel_values": pixels, "image_grid_thw": torch.tensor([[1, 1, 4]])},
        {"pixel_values": pixels.double(), "image_grid_thw": torch.tensor([[1, 2, 2]])},
        {"pixel_values": pixels.flip(0), "image_grid_thw": torch.tensor([[1, 2, 2]])},
    ]
    assert len({digest_of(VisionCall("image", call)) for call in calls}) == 4
    assert digest_of(VisionCall("image", calls[0])) == digest_of(
        VisionCall("image", {**calls[0], "pixel_values": pixels.clone()})
    )
    assert digest_of(VisionCall("image", calls[0])) != digest_of(VisionCall("video", calls[0]))


@some_of(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ],
    2,
)
def test_out_of_memory_halves_the_batch_once_and_is_stamped(
    tmp_path: Path,
    own: dict[str, list[dict[str, Any]]],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    embedded = Embedded()
    cells = grid(tmp_path, "method=divprune", LIMIT, "batch_size=4")
    loaded = embedded.model_of(cells[0])
    plain = loaded.model.generate

    def small(**inputs: Any) -> Any:
        if len(inputs["input_ids"]) > 2:
            raise error
        return plain(**inputs)

    monkeypatch.setattr(loaded.model, "generate", small)
    outcome = work(cells, executors={"embedded": embedded})
    row = outcome.rows[cells[0].key]
    assert row.batch == 2 and "out of memory at batch 4: went on with 2" in row.notes
    assert samples(outcome)["divprune"] == own["divprune"]


def test_memory_that_half_a_batch_does_not_fit_either_fails_the_cell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded = Embedded()
    cells = grid(tmp_path, "method=vanilla", LIMIT, "batch_size=4")
    asked: list[int] = []

    def full(**inputs: Any) -> Any:
        asked.append(len(inputs["input_ids"]))
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(embedded.model_of(cells[0]).model, "generate", full)
    (failure,) = work(cells, executors={"embedded": embedded}).failures
    assert asked == [4, 2] and failure.error == "OutOfMemoryError: CUDA out of memory"
    assert "Traceback" in (CellFolder(cells[0]).failure() or {})["traceback"]
