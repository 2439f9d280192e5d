"""Which settings stay within a budget of time or memory: accuracy of runs, costs of profiles alone.

Times of an accuracy run are those of its pictures and of whatever ran beside it; a profile takes
methods in turn on fixed inputs. The two are joined by model, precision, kernel, image settings,
method and budget.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from operator import attrgetter
from pathlib import Path
from statistics import fmean
from typing import Any, get_args

import pandas as pd

from unibench import frame
from unibench.budget import BudgetMode
from unibench.errors import UsageError, shown, unknown
from unibench.inference.row import columns
from unibench.store.data import parsed_json, read_bytes

LIMITS = (
    *("prefill_ms", "vision_ms", "method_ms", "total_ms", "decode_ms", "peak_mib", "kv_mib"),
    "tflops",
)
"""Costs that a profile measures or counts, of one batch."""
SAME = columns("model", "dtype", "attn", "pixels")  # in a profile as in a row
MAX_BYTES = 1 << 24


@dataclass(frozen=True)
class Inputs:
    """What was profiled: numbers of other inputs are never compared.

    Attributes:
        model, dtype, attn, pixels: the model as it was loaded.
        image: width x height, or the file.
        batch: prompts read together.
        text_tokens: of a prompt.
        new_tokens: decoded.
        protocol: of the profile.
        device: that it was measured on.
    """

    model: str
    dtype: str
    attn: str
    pixels: str
    image: str
    batch: int
    text_tokens: int
    new_tokens: int
    protocol: str
    device: str

    def __str__(self) -> str:
        parts = (self.image, f"batch {self.batch}", f"{self.new_tokens} new tokens", self.device)
        return f"{self.model}: {', '.join(parts)}"


@dataclass(frozen=True)
class Profiled:
    """A method in a profile.

    Attributes:
        inputs: that it was given.
        method: name and parameters, as rows have them.
        budget: as written.
        costs: by name of :data:`LIMITS`; of times the medians.
        file: that holds it.
    """

    inputs: Inputs
    method: str
    budget: str
    costs: Mapping[str, float]
    file: Path


@dataclass(frozen=True)
class Setting:
    """A method at a budget, with its accuracy and its cost.

    Attributes:
        name: method and parameters.
        method: its name alone.
        params: those that are not its defaults.
        budget: as written.
        mode: of the budget.
        tasks: that its drop is the mean over.
        drop: against vanilla in per cent.
        costs: of its profile.
        missed: the limits that it does not stay within; ``drop`` is that of the drop.
    """

    name: str
    method: str
    params: Mapping[str, Any]
    budget: str
    mode: str
    tasks: int
    drop: float
    costs: Mapping[str, float]
    missed: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether it stays within every limit."""
        return not self.missed


@dataclass(frozen=True)
class Choice:
    """The answer for one model and one kind of inputs.

    Attributes:
        inputs: of the profile.
        vanilla: its costs.
        enough: whether the unpruned model stays within every limit, so that nothing has to be
            pruned.
        settings: with both numbers, those that fit first, then by drop.
        best: the least drop among those that fit; of equal ones the cheapest in the first limit.
        unprofiled: methods with accuracy and without a profile.
    """

    inputs: Inputs
    vanilla: Mapping[str, float]
    enough: bool
    settings: tuple[Setting, ...]
    best: Setting | None
    unprofiled: tuple[str, ...]


def profiles(folder: Path) -> list[Profiled]:
    """What the profiles below a folder of results say; the newest of each method and inputs.

    Raises:
        UsageError: there is none.
    """
    found: dict[tuple[Inputs, str, str], Profiled] = {}
    # a dangling link has a time too
    files = sorted(folder.glob("profile/*.json"), key=lambda file: file.lstat().st_mtime)
    for file in files:
        for one in _of_file(file):
            found[one.inputs, one.method, one.budget] = one
    if not found:
        raise UsageError(
            f"{folder} has no profile; costs are taken from one alone: python -m unibench profile"
            f" model=.. method=.. ratio=.. out={folder}"
        )
    return list(found.values())


def _of_file(file: Path) -> Iterator[Profiled]:
    """The methods of a profile; of a file that is none, nothing. Its texts go to terminals."""
    try:
        table = parsed_json(read_bytes(file, MAX_BYTES))
        device = shown(table["environment"]["device"])
        for row in table["rows"]:
            said: dict[str, Any] = {name: shown(row[name]) for name in (*SAME, "image", "protocol")}
            said |= {name: int(row[name]) for name in ("batch", "text_tokens", "new_tokens")}
            inputs = Inputs(**said, device=device)
            costs = {name: _cost(row.get(name)) for name in LIMITS}
            known = {name: value for name, value in costs.items() if value is not None}
            yield Profiled(inputs, shown(row["method"]), shown(row["budget"]), known, file)
    except (OSError, UsageError, ValueError, KeyError, TypeError, OverflowError):
        return


def _cost(value: Any) -> float | None:
    value = value.get("median") if isinstance(value, Mapping) else value
    known = isinstance(value, (int, float)) and isfinite(value)
    return float(value) if known else None


def within(
    cells: pd.DataFrame, found: Sequence[Profiled], limits: Mapping[str, float], max_drop: float
) -> list[Choice]:
    """For each kind of profiled inputs, the settings within the limits and the best of them.

    Args:
        cells: a frame of :func:`unibench.frame.load`.
        found: profiles.
        limits: largest cost by name of :data:`LIMITS`.
        max_drop: largest drop in per cent, mean over the tasks that vanilla was run on.

    Raises:
        UsageError: a limit that is none, or no model has both.
    """
    for name in limits:
        if name not in LIMITS:
            raise unknown("limit", name, LIMITS)
    lines = frame.whole(cells)
    choices = []
    for _, part in frame.conditions(lines):
        joined = frame.over_seeds(part, intervals=False)
        frame.check_alike(joined, "a recommendation")
        same = _profiles_of(_place(joined), found)
        for inputs in dict.fromkeys(one.inputs for one in same):
            here = [one for one in same if one.inputs == inputs]
            choice = _choice(joined, inputs, here, limits, max_drop)
            choices += [choice] if choice is not None else []
    if not choices:
        models = ", ".join(sorted({str(model) for model in lines["model"]}))
        profiled = ", ".join(sorted({one.inputs.model for one in found}))
        raise UsageError(
            f"no model has both accuracy and a profile with the same dtype, attn and pixels:"
            f" results of {models}, profiles of {profiled}"
        )
    return choices


def _place(cells: pd.DataFrame) -> tuple[str, ...]:
    """What lines, all of one model, must share with a profile."""
    return tuple(str(cells.iloc[0][name]) for name in SAME)


def _profiles_of(place: tuple[str, ...], found: Sequence[Profiled]) -> list[Profiled]:
    shared = attrgetter(*SAME)
    return [one for one in found if shared(one.inputs) == place]


def priced(cells: pd.DataFrame, found: Sequence[Profiled], number: int | None) -> pd.DataFrame:
    """The lines of methods that were profiled, with the costs of their profiles in place of those
    of the runs.

    Args:
        cells: of one model, seeds joined.
        found: profiles.
        number: of the inputs, from 1, where the model was profiled with several.

    Raises:
        UsageError: the model has no profile, or several and no number.
    """
    place = _place(cells)
    same = _profiles_of(place, found)
    inputs = list(dict.fromkeys(one.inputs for one in same))
    if not inputs:
        raise UsageError(f"{place[0]} has no profile with {', '.join(place[1:])}")
    listed = "; ".join(f"{count}: {one}" for count, one in enumerate(inputs, 1))
    if number is None and len(inputs) > 1:
        raise UsageError(f"profiles of several inputs, choose one with inputs=1: {listed}")
    if number is not None and number > len(inputs):
        raise UsageError(f"inputs={number}: there are {listed}")
    chosen = inputs[(number or 1) - 1]
    costs = {(one.method, one.budget): one.costs for one in same if one.inputs == chosen}
    names = (cells["method"] + " " + cells["variant"]).str.strip()
    known = [costs.get(pair) for pair in zip(names, cells["budget"], strict=True)]
    there = [one is not None for one in known]
    lines = cells[there].copy()
    for name in LIMITS:
        if name in lines:
            values = [one.get(name, float("nan")) for one in known if one is not None]
            lines[name] = values
    return lines


def _choice(
    joined: pd.DataFrame,
    inputs: Inputs,
    profiled: Sequence[Profiled],
    limits: Mapping[str, float],
    max_drop: float,
) -> Choice | None:
    costs = {(one.method, one.budget): one.costs for one in profiled}
    vanilla = set(joined.loc[joined["method"] == "vanilla", "setting"])
    settings, without = [], []
    pruned = joined[(joined["method"] != "vanilla") & joined["setting"].isin(vanilla)]
    for _, group in pruned.groupby("candidate", sort=False):
        first = group.iloc[0]
        name = f"{first['method']} {first['variant']}".strip()
        known = costs.get((name, str(first["budget"])))
        if set(group["setting"]) != vanilla or group["drop_pct"].isna().any():
            continue
        if known is None:
            without.append(f"{name} at {first['budget']}")
            continue
        drop = fmean(float(value) for value in group["drop_pct"])
        settings.append(
            Setting(
                name=name,
                method=str(first["method"]),
                params=_of_variant(str(first["variant"])),
                budget=str(first["budget"]),
                mode=str(first["budget_mode"]),
                tasks=len(group),
                drop=drop,
                costs=known,
                missed=(*missed(known, limits), *(["drop"] if drop > max_drop else [])),
            )
        )
    if not settings:
        return None
    order = next(iter(limits))
    settings.sort(key=lambda one: (not one.fits, one.drop, one.costs.get(order, float("inf"))))
    best, full = settings[0] if settings[0].fits else None, costs.get(("vanilla", "0"), {})
    return Choice(inputs, full, not missed(full, limits), tuple(settings), best, tuple(without))


def missed(costs: Mapping[str, float], limits: Mapping[str, float]) -> list[str]:
    """The limits that costs do not stay within."""
    # what was not measured cannot be promised
    return [name for name, most in limits.items() if costs.get(name, float("inf")) > most]


def _of_variant(variant: str) -> dict[str, str]:
    pairs = (part.partition("=") for part in variant.split(",") if part)
    return {key: value for key, _, value in pairs}


def code_of(setting: Setting) -> str:
    """The lines of code that use a setting.

    >>> where = ("0.889", "at_stage", 1, 0.0, {}, True)
    >>> setting = Setting("fastv layer=3", "fastv", {"layer": "3"}, *where)
    >>> print(code_of(setting).splitlines()[1])
    with unibench.prune(model, "fastv", processor=processor, ratio=0.889, layer=3):
    """
    stated = _stated(setting.budget)
    known = setting.mode in get_args(BudgetMode) and all(map(str.isidentifier, setting.params))
    if stated is None or not known:  # of a store that somebody else made, and to be pasted
        return "# no command makes such a setting, so no code is shown"
    mode = "" if setting.mode == "at_stage" else f', budget_mode="{setting.mode}"'
    more = "".join(f", {key}={_literal(value)}" for key, value in setting.params.items())
    arguments = f"{json.dumps(setting.method)}, processor=processor, {stated}{mode}{more}"
    lines = (
        "import unibench",
        f"with unibench.prune(model, {arguments}):",
        "    generated = model.generate(**inputs)",
    )
    return "\n".join(lines)


def _stated(budget: str) -> str | None:
    """A budget's label as an argument of ``prune``.

    >>> [_stated(label) for label in ("0.889", "keep64", "7of9", "0); print(1")]
    ['ratio=0.889', 'keep=64', 'ratio="7/9"', None]
    """
    if found := re.fullmatch(r"keep(\d+)", budget):
        return f"keep={found[1]}"
    if found := re.fullmatch(r"(\d+)of(\d+)", budget):
        return f'ratio="{found[1]}/{found[2]}"'
    return f"ratio={budget}" if re.fullmatch(r"\d+(\.\d+)?(e-\d+)?", budget) else None


def _literal(text: str) -> str:
    """A parameter as Python writes it."""
    try:
        value = json.loads(text)
    except ValueError:
        value = {"True": True, "False": False, "None": None}.get(text, text)
    return repr(value)
