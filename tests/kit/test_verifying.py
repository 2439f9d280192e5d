"""A certificate is believed where everything in it fits, and only there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.kit import _certificates as made
from tests.kit._certificates import LIMIT, MINI, TOKENS, asked, certified, is_own
from unibench import UsageError, registry
from unibench.identity import Cell
from unibench.inference.record import Record
from unibench.kit import certificate as parts
from unibench.kit import standard
from unibench.kit.rerun import claims, words_of
from unibench.kit.verifying import odds, opened, stated, verify
from unibench.pruning.record import packed
from unibench.tasks.synthvqa import SynthVQA

Tamper = Callable[[Path], Path]


@pytest.fixture(autouse=True)
def _suite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(standard.STANDARDS, MINI.name, MINI)


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certified(tmp_path_factory.mktemp("honest") / "certificate")


def some(names: Iterable[str], *default: str) -> list[Any]:
    """Names of cases, those slow that do not begin in one of these ways."""
    return [
        name if name.startswith(default) else pytest.param(name, marks=pytest.mark.slow)
        for name in names
    ]


def kinds(folder: Path) -> set[str]:
    return {one.kind for one in verify(folder).problems}


def test_an_honest_certificate_fits(honest: Path) -> None:
    found = verify(honest)
    assert not found.problems
    assert found.samples == LIMIT


def test_it_fits_wherever_it_is_copied_to(honest: Path, tmp_path: Path) -> None:
    assert not verify(shutil.copytree(honest, tmp_path / "elsewhere")).problems


# -- edits of answers and tokens, from which rows, scores, tests and manifests are made anew


def own_alone(change: Callable[[list[Record]], list[Record]]) -> made.Change:
    return lambda cell, records: change(records) if is_own(cell) else records


def without_the_wrong(records: list[Record]) -> list[Record]:
    return [one for one in records if one.score]


def easier(records: list[Record]) -> list[Record]:
    """Other questions of the task in place of those that came out wrong."""
    others = iter(asked()[LIMIT:])
    found = []
    for one in records:
        if one.score:
            found.append(one)
            continue
        new = next(others)
        found.append(replace(
            one, id=new.id, truth=new.answers[0], answer=new.answers[0], score=1.0,
            question=new.question, ability=new.ability, group=new.group,
        ))  # fmt: skip
    return found


def of_mask(kept: int, counted: int | None = None) -> Callable[[list[Record]], list[Record]]:
    mask, count = packed(torch.arange(TOKENS) < kept), counted or kept
    return lambda records: [
        replace(one, kept=count, processed=(count, count), last=mask) for one in records
    ]


def with_column(**values: Any) -> Callable[[list[Record]], list[Record]]:
    return lambda records: [replace(one, **values) for one in records]


SAMPLES = {
    "the wrong answers of the method are left out": (own_alone(without_the_wrong), "samples"),
    "the first question is left out everywhere": (lambda cell, records: records[1:], "samples"),
    "easier questions of the task are asked": (own_alone(easier), "samples"),
    "twice the budget was kept": (own_alone(of_mask(8)), "tokens"),
    "fewer tokens are counted than the bitmask has": (own_alone(of_mask(8, 4)), "tokens"),
    "the prompt said more": (own_alone(with_column(prompt_digest="hint")), "prompts"),
    "the pictures were larger": (own_alone(with_column(pixel_digest="large")), "prompts"),
    "the accepted answers are others": (own_alone(with_column(truth="yes")), "samples"),
    "a part of the time is longer than the whole": (
        own_alone(with_column(method_ms=50.0)), "times",
    ),
    "a baseline is left out": (
        lambda cell, records: None if cell.method == "divprune" else records, "suite",
    ),
    "the best draw of a control is left out": (
        lambda cell, records: None if cell.config.seed == 2 else records, "suite",
    ),
    "the unpruned model was pruned": (
        lambda cell, records: of_mask(8)(records) if cell.method == "vanilla" else records,
        "tokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    "what", some(SAMPLES, "the wrong answers", "twice the budget", "the prompt", "a baseline")
)
def test_edited_samples_are_found_though_all_else_follows(what: str, tmp_path: Path) -> None:
    change, kind = SAMPLES[what]
    assert kind in kinds(certified(tmp_path / "certificate", change))


# -- edits of what was asked, under the keys that follow


def with_identity(wanted: Callable[[Cell], bool], **changes: Any) -> made.Rename:
    def rename(cell: Cell) -> Cell:
        return replace(cell, identity={**cell.identity, **changes}) if wanted(cell) else cell

    return rename


IDENTITIES = {
    "the method had longer answers": with_identity(is_own, generation={"max_new_tokens": 64}),
    "a baseline had other positions": with_identity(
        lambda cell: cell.method == "divprune", positions="compact"
    ),
    "every cell was of other questions": with_identity(lambda cell: True, data="code:0000"),
    "the method was another code": lambda cell: (
        replace(
            cell, identity={**cell.identity, "code": {**cell.identity["code"], "method": "0" * 16}}
        )
        if is_own(cell)
        else cell
    ),
}


@pytest.mark.parametrize("what", some(IDENTITIES, "a baseline"))
def test_an_edited_identity_is_found_under_its_new_key(what: str, tmp_path: Path) -> None:
    found = kinds(certified(tmp_path / "certificate", rename=IDENTITIES[what]))
    assert found & {"identity", "rows", "suite"}


def test_the_better_of_two_runs_is_no_cell_of_the_suite(tmp_path: Path) -> None:
    own = next(cell for cell in made.cells() if is_own(cell))
    again = replace(own, identity={**own.identity, "seed": 7}, config=replace(own.config, seed=7))
    assert "suite" in kinds(certified(tmp_path / "certificate", extra=[again]))


# -- edits of what stands beside the cells, under another manifest


def edited(name: str, edit: Callable[[Any], object]) -> Tamper:
    def tamper(folder: Path) -> Path:
        content = json.loads((folder / name).read_text())
        edit(content)
        (folder / name).write_text(parts.text_of(content))
        parts.seal(folder)
        return folder

    return tamper


def other_source(folder: Path) -> Path:
    file = folder / parts.SOURCE / "_first.py"
    file.write_text(file.read_text().replace("-self.step", "self.step"))
    parts.seal(folder)
    return folder


def strange_file(folder: Path) -> Path:
    (folder / "notes.txt").write_text("see also")
    return folder


BESIDE: dict[str, tuple[Tamper, str]] = {
    "p of a test": (
        edited(parts.STATISTICS, lambda all: all["baselines"][0].update(p=0.001)), "statistics",
    ),
    "a control that was not beaten": (
        edited(parts.STATISTICS, lambda all: all["controls"].clear()), "statistics",
    ),
    "a score on the first page": (
        edited(parts.CERTIFICATE, lambda all: all["results"][0].update(score_100=99.0)),
        "statistics",
    ),
    "the suite asks less": (
        edited(parts.CERTIFICATE, lambda all: all["suite"].update(limit=6)), "suite",
    ),
    "a rule that failed is gone": (
        edited(parts.CONFORMANCE, lambda all: all["findings"].pop()), "conformance",
    ),
    "the verdict of the check": (
        edited(parts.CONFORMANCE, lambda all: all["findings"][0].update(verdict="failed")),
        "conformance",
    ),
    "the code beside it": (other_source, "source"),
    "a file more": (strange_file, "files"),
}  # fmt: skip


@pytest.mark.parametrize(
    "what", some(BESIDE, "p of", "a rule that failed", "the code beside", "a file more")
)
def test_an_edit_beside_the_cells_is_found(what: str, honest: Path, tmp_path: Path) -> None:
    tamper, kind = BESIDE[what]
    assert kind in kinds(tamper(shutil.copytree(honest, tmp_path / "certificate")))


# -- what is left


def made_up(records: list[Record]) -> list[Record]:
    """Every wrong answer replaced by the right one."""
    by_id = {sample.id: sample for sample in asked()}
    return [
        replace(one, answer=(right := by_id[one.id].answers[0]),
                score=SynthVQA().score(by_id[one.id], right))
        for one in records
    ]  # fmt: skip


def test_made_up_answers_fit_and_the_odds_of_a_rerun_are_stated(tmp_path: Path) -> None:
    assert not verify(certified(tmp_path / "certificate", own_alone(made_up))).problems
    assert odds(1000, 50, 50) == pytest.approx(0.0719, abs=1e-3)
    assert odds(10, 10, 1) == 0
    lines = stated(1000, 0.05)
    assert "made up" in lines[0] and "probability 0.072" in "\n".join(lines)


def test_nothing_of_a_certificate_is_run(honest: Path, tmp_path: Path) -> None:
    folder, marker = shutil.copytree(honest, tmp_path / "certificate"), tmp_path / "MARKER"
    for place in (folder / parts.SOURCE / "_first.py", folder / parts.SOURCE / "torch.py"):
        place.write_text(f"open({str(marker)!r}, 'w').write('run')\n" + made.METHOD.read_text())
    parts.seal(folder)
    verify(folder)
    assert not marker.exists()


@pytest.mark.parametrize("value", ["/tmp/evil.py:Evil", "${oc.env:HOME}", {"name": "fastv"}, "a,b"])
def test_a_rerun_takes_no_parameter_that_could_name_code(
    value: Any, honest: Path, tmp_path: Path
) -> None:
    folder = edited(parts.CERTIFICATE, lambda all: all["method"]["options"].update(step=value))(
        shutil.copytree(honest, tmp_path / "certificate")
    )
    with pytest.raises(UsageError, match="nothing was run"):
        words_of(opened(folder), registry.method(made.OWN), made.OWN)


def test_a_rerun_refuses_another_code_and_names_what_a_certificate_claims(
    honest: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.py"
    other.write_text(made.METHOD.read_text().replace("-self.step", "self.step"))
    with pytest.raises(UsageError, match="nothing was run"):
        words_of(opened(honest), registry.method(f"{other}:First"), f"{other}:First")
    card = registry.method(made.OWN)
    assert words_of(opened(honest), card, made.OWN) == [f"method={made.OWN}"]
    assert not list(claims(opened(honest), card))
    folder = edited(parts.CERTIFICATE, lambda all: all["method"].update(training_free=False))(
        shutil.copytree(honest, tmp_path / "certificate")
    )
    (claim,) = claims(opened(folder), card)
    assert "training_free" in claim.what
