"""``plot`` and ``overlay``: pictures of finished cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from unibench import frame as frames
from unibench.cli.parser import Options
from unibench.cli.results import finished, folder_of, only
from unibench.comparison.latency import priced, profiles
from unibench.errors import UsageError
from unibench.page.gallery import views_of
from unibench.plots import canvas, costs, ranks, scores, video
from unibench.plots.overlay import film_strip, side_by_side

FEW = 3  # views of a picture


def plot(options: Options) -> int:
    """``plot KIND [model=M] [task=T] [budget=0.889] [out=outputs] [to=KIND.svg]``; the ending of
    ``to`` is the format.
    """
    place = Path(options.to or f"{options.kind}.svg").expanduser()
    with frames.scores_kept(folder_of(options)):
        drawn = _drawn(frames.over_seeds(finished(options)), options)
    print(canvas.save(drawn, place))
    return 0


def _drawn(frame: pd.DataFrame, options: Options) -> Figure:
    """The plot of a kind; each is of one model, task or budget, which may have to be chosen."""
    match options.kind:
        case "heat":
            only(frame, "model")
            return scores.heat_map(frame, options.value)
        case "radar":
            only(frame, "model")
            return scores.radar(frame, only(frame, "budget"), spokes=options.spokes)
        case "ranks":
            return ranks.critical_difference(frame, only(frame, "budget"))
        case "size":
            models = [str(model) for model in frame["model"].unique()]
            models = options.models.split(",") if options.models else models
            return scores.sizes(frame, models, only(frame, "budget"))
    only(frame, "model")
    task = only(frame, "task")
    match options.kind:
        case "pareto":
            if options.inputs is not None:
                frame = priced(frame, profiles(folder_of(options)), options.inputs)
            return costs.pareto(frame, task, options.cost)
        case "bars":
            return costs.bars(frame, task)
        case "frames":
            return video.over_time(frame, task)
    return scores.by_ratio(frame, task)


def overlay(options: Options) -> int:
    """``overlay SAMPLE [model=M] [task=T] [budget=B] [out=outputs] [show=kept|scores]
    [to=overlay.png]``: what each method kept, side by side, or the scores of its first cut.
    """
    frame = finished(options)
    cells = _of_sample(frames.whole(frame), options.sample)
    # what nothing was taken from stands first
    cells = cells.sort_values("method", key=lambda names: names != "vanilla", kind="stable")
    for key in ("model", "task", "setting"):
        only(cells, key)
    folders = zip(_labels(cells, options.sample), cells["folder"], strict=True)
    columns = {name: views_of(folder, options.sample, options.show) for name, folder in folders}
    if options.show == "scores":
        columns = {name: views for name, views in columns.items() if views}
        if not columns:
            raise UsageError(
                f"no scores of sample {options.sample} are stored among these results; a run with"
                " scores=true keeps them, of methods that score each token"
            )
    if not any(columns.values()):
        raise UsageError(
            "there is nothing to show: no finished cell among these results, or sample"
            f" {options.sample} has no picture"
        )
    place = Path(options.to).expanduser()
    formats = Image.registered_extensions()
    if formats.get(place.suffix.lower()) not in Image.SAVE:
        raise UsageError(f"to={place}: pictures are written as png, webp, jpg, tiff or pdf")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # frames of a video lie beside each other; a picture has one view, or two with its overview
        many = any(len(views) > FEW for views in columns.values())
        (film_strip(columns) if many else side_by_side(columns)).save(place)
    except (OSError, ValueError) as error:
        raise UsageError(f"to={place} cannot be written: {error}") from None
    print(place)
    return 0


def _of_sample(cells: pd.DataFrame, sample: str) -> pd.DataFrame:
    """The cells that have a sample; all, where none has it."""
    known = cells["folder"].map(lambda folder: sample in frames.samples(folder).index)
    return cells[known] if known.any() else cells


def _labels(cells: pd.DataFrame, sample: str) -> list[str]:
    """What stands above each column: the cell's name, and how many tokens it kept, which the view
    of a smaller picture does not show.
    """
    found = (frames.samples(folder) for folder in cells["folder"])
    counts = [table.loc[sample] if sample in table.index else None for table in found]
    return [
        name if one is None else f"{name}: {one['kept']} of {one['visual_tokens']}"
        for name, one in zip(_names(cells), counts, strict=True)
    ]


def _names(cells: pd.DataFrame) -> list[str]:
    """What each cell is called: its method and budget, and what else tells it from the others."""
    names = (
        cells["method"]
        + (" " + cells["variant"]).where(cells["variant"] != "", "")
        + " "
        + cells["budget"]
    )
    alike = cells.groupby(names)
    for key in ("budget_mode", "seed"):
        differs = alike[key].transform("nunique") > 1
        names = names.where(~differs, names + f" {key} " + cells[key].astype(str))
    return [str(name) for name in names]
