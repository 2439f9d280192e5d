"""Every method answers as the official code does, on stored tensors.

``UNIBENCH_GOLDEN`` names another folder of cases in the same form.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.golden import _context
from tests.golden._adapters import ADAPTERS, Answer, Call
from tests.golden._cases import FOLDER, Case, Entry, cases, entry_of, mapped

MAP = mapped()


def _parametrised() -> list[object]:
    found = []
    for case in cases():
        entry = entry_of(case, MAP)
        marks = (
            []
            if entry is None or entry.xfail is None
            else [pytest.mark.xfail(strict=True, reason=entry.xfail)]
        )
        found.append(pytest.param(case, entry, id=case.name, marks=marks))
    return found


def test_there_are_cases() -> None:
    assert any(cases()), f"no cases under {FOLDER}"


@pytest.mark.parametrize(("case", "entry"), _parametrised())
def test_a_method_answers_as_the_official_code(
    case: Case, entry: Entry | None, tmp_path: Path
) -> None:
    assert entry is not None, f"tests/golden/map.yaml has no entry for the folder {case.folder!r}"
    assert entry.adapter in ADAPTERS, f"no adapter {entry.adapter!r}"
    doubles = (torch.float32, torch.float64) if case.checked_in_double else (torch.float32,)
    reasons = [_disagreement(case, entry, dtype, tmp_path) for dtype in doubles[:1]]
    if (
        reasons[0] and len(doubles) > 1
    ):  # float32 rounding decided otherwise; the case was checked in float64
        reasons.append(_disagreement(case, entry, torch.float64, tmp_path))
    assert reasons[-1] is None, reasons


def _disagreement(case: Case, entry: Entry, dtype: torch.dtype, tmp: Path) -> str | None:
    """What differs from the official answer, or None."""
    notes = _context.Notes()
    answer = ADAPTERS[entry.adapter](Call(case, dtype, entry.method, entry.options, tmp, notes))
    if answer is None:
        return None
    if entry.options.get("variant") == "official_bug":
        assert notes.said, "official_bug must be stamped into the row"
    reason = _kept_differ(case, entry, answer) or _merged_differ(case, entry, answer)
    if reason is None and entry.differs:
        plain = {key: value for key, value in entry.options.items() if key != "variant"}
        default = ADAPTERS[entry.adapter](Call(case, dtype, entry.method, plain, tmp, notes))
        assert default is not None
        if (
            _kept_differ(case, entry, default) is None
            and _merged_differ(case, entry, default) is None
        ):
            return "the default reproduces a defect"
    return reason


def _kept_differ(case: Case, entry: Entry, answer: Answer) -> str | None:
    kept = answer.kept.numpy()
    if (np.diff(kept) <= 0).any():
        return f"not sorted and unique: {kept}"
    if "kept" not in case.arrays:
        return None
    expected = case.arrays["kept"]
    if entry.kept == "count":
        return None if len(kept) == len(expected) else f"kept {len(kept)}, official {len(expected)}"
    if entry.kept == "subset":
        whole = len(kept) == case.keep and set(expected.tolist()) <= set(kept.tolist())
        return None if whole else f"kept {kept}; must hold {expected} and number {case.keep}"
    if "must" in case.arrays:
        must, may = (set(case.arrays[name].tolist()) for name in ("must", "may"))
        given = set(kept.tolist())
        fits = len(given) == len(expected) and must <= given <= must | may
        return None if fits else f"missing {must - given}, unexpected {given - must - may}"
    if case.tie_policy == "up_to_duplicates":
        groups = case.arrays["dup_group"]
        kept, expected = np.sort(groups[kept]), np.sort(groups[expected])
    if np.array_equal(kept, expected):
        return None
    return (
        f"missing {set(expected.tolist()) - set(kept.tolist())}, unexpected"
        f" {set(kept.tolist()) - set(expected.tolist())}"
    )


def _merged_differ(case: Case, entry: Entry, answer: Answer) -> str | None:
    if not entry.merged or "merged" not in case.arrays:
        return None
    expected = case.arrays["merged"]
    assert answer.rows is not None
    if len(answer.rows) != len(expected):
        return f"{len(answer.rows)} rows, official {len(expected)}"
    anchors = _anchors(case, len(expected))
    if anchors is None:
        return None if _context.same_rows(expected, answer.rows) else "the merged rows differ"
    apart = np.abs(answer.rows.numpy() - expected[anchors.argsort()]).max(-1)
    return (
        None
        if (apart <= 2e-4).all()
        else f"the merged rows differ by up to {apart.max():.2g}, at {np.flatnonzero(apart > 2e-4)}"
    )


def _anchors(case: Case, count: int) -> np.ndarray | None:
    """The token that each official row stands for, where the case tells."""
    arrays = case.arrays
    names = ("representative", "selected_order", "anchors")
    found = next(
        (arrays[name] for name in names if name in arrays and len(arrays[name]) == count), None
    )
    if "dominant" in arrays:
        found = np.concatenate([arrays["dominant"], arrays["contextual_targets"]])
    elif found is None and "raster order" in case.text.lower():
        found = arrays.get("kept")
    return (
        found
        if found is not None and len(found) == count and len(set(found.tolist())) == count
        else None
    )
