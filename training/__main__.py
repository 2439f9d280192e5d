"""Trains the tiny checkpoints from nothing: ``python -m training all``."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import re
import sys
import time
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from unibench._compat import repair_torchvision

repair_torchvision()

from training._answering import Answering
from training._build import build
from training._evaluate import exact, exact_worded
from training._joint import train_joint
from training._labels import FIELDS
from training._language import FAMILY, adopt, rotary_of, train_language, tune_language
from training._loop import STOP, Place, Run, conclude
from training._plan import SHARED, Job, jobs, status
from training._processors import make_processor
from training._recipe import LATER, RECIPES, Kind, Language, Recipe, Stage, StageName
from training._towers import TOWERS
from training._vision import Heads, train_vision
from training._wording import Wording
from training._words import make_tokenizer, role_ids, vocabulary_size
from unibench.errors import UsageError
from unibench.tasks import easyvqa

LOG = logging.getLogger(__name__)
STEPS = (SHARED, *(part.name for part in LATER), "tune", "vision", "joint", "video")
WAIT = 10  # seconds until a process looks again whether there is something to do
LOOK = 500  # steps after which accuracy is measured on the way
_SPAN = 500_000  # training pictures that belong to one seed


def main(argv: list[str] | None = None) -> int:
    """Trains, evaluates on pictures kept for that, writes checkpoints; continues what was begun."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if options.what == "status":
        print(status(options.folder))
        return 0
    try:
        if not options.no_easyvqa:
            easyvqa.entries("train")
    except UsageError as error:
        print(f"{error}; or leave it out of the training: --no-easyvqa", file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    STOP.listen()
    wanted = jobs(options.what, options.seed)
    while wanted := [job for job in wanted if not job.is_done(options.folder)]:
        if not _work(wanted, options):
            time.sleep(WAIT)
        if STOP.asked:
            return 0
    return 0


def _work(wanted: list[Job], options: argparse.Namespace) -> bool:
    """Does the first job that can be done and that no other process is at; False if there is
    none.
    """
    for job in wanted:
        if job.is_ready(options.folder):
            with job.locked(options.folder) as free:
                if free and not job.is_done(options.folder):
                    Training(options, job).run()
                    job.finish(options.folder)
                    return True
    return False


class Training:
    """One job, with all that the stages before it have left.

    Args:
        options: of the command line.
        job: what is trained.
    """

    def __init__(self, options: argparse.Namespace, job: Job) -> None:
        self.options, self.job = options, job
        self.device = torch.device(
            options.device or ("cuda" if torch.cuda.is_available() else "cpu")
        )

    def run(self) -> None:
        """Trains, measures, writes a line of the log, and a checkpoint where there is one."""
        if self.job.family == SHARED:
            self._language()
        else:
            self._family(self._recipe())

    def _language(self) -> tuple[Any, Wording]:
        """The decoder of all and the words that its visual tokens are made of: trained, or what is
        left of that.
        """
        course, tokenizer = Language(), make_tokenizer(FAMILY)
        later = [(part, getattr(self.options, f"{part.name}_steps")) for part in course.later]
        course = dataclasses.replace(
            course,
            stage=self._stage(course.stage, SHARED),
            later=tuple(
                part if steps is None else dataclasses.replace(part, steps=steps)
                for part, steps in later
            ),
        )
        recipe, place = RECIPES[FAMILY], self._place(SHARED)
        ids, size = role_ids(FAMILY, tokenizer), vocabulary_size(tokenizer)
        model = build(recipe, ids, size, 0).to(self.device)
        spread = float(model.model.language_model.embed_tokens.weight.detach().std())
        wording = Wording(recipe.width, tokenizer, spread).to(self.device)

        def watch(run: Run) -> None:
            if run.step % (2 * LOOK) == 0 or run.step == run.stage.steps:
                asking = Answering(model, FAMILY, rotary_of(FAMILY))
                batches = self.options.look * (4 if run.step == run.stage.steps else 1)
                shares = exact_worded(asking, wording, course, place, batches)
                conclude(run, self.options.folder, SHARED, shares)

        train_language(model, wording, course, place, watch)
        return model, wording

    def _family(self, recipe: Recipe) -> None:
        """A stage of one of the families."""
        place, tokenizer = self._place(self.job.name), make_tokenizer(recipe.family)
        ids, size = role_ids(recipe.family, tokenizer), vocabulary_size(tokenizer)
        model = build(recipe, ids, size, self.job.seed).to(self.device)
        tower = TOWERS[recipe.family](model.model)
        heads = Heads(tower.last.in_features).to(self.device)
        millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
        LOG.info("%s: %.2f million parameters", recipe.family, millions)
        run = train_vision(model, heads, recipe, place)
        if self.job.stage == "vision":
            conclude(run, self.options.folder, self.job.name, _found(place.folder))
            return
        source, wording = self._language()
        adopt(model, source.model.language_model)
        if recipe.tune:
            tune_language(model, wording, recipe, Language(), place)
        if not self.options.no_align:
            words = source.model.language_model.embed_tokens.weight
            wording.fold(tower.last, heads.estimate, words)
        shown: list[Kind] = ["plain", "places", "several"]
        shown += [] if self.options.no_easyvqa else ["easy"]

        def watch(run: Run) -> None:
            if run.step % LOOK == 0 or run.step == run.stage.steps:
                clips: list[Kind] = ["clip"] if run.name == "video" else []
                kinds = (*shown, *clips)
                batches = self.options.look * (4 if run.step == run.stage.steps else 1)
                shares = exact(model, recipe, place, kinds, batches)
                conclude(run, self.options.folder, self.job.name, shares)

        names: tuple[StageName, ...] = ("joint", "video")
        for name in names[: names.index(self.job.stage) + 1]:  # type: ignore[arg-type]
            train_joint(model, heads, recipe, place, name, self.options.drop_ground, watch)
        given: Path | None = None if self.job.seed else self.options.export
        if given is not None and self.options.what == "all":
            given /= recipe.family
        export(model, recipe.family, given or place.folder / "export")

    def _recipe(self) -> Recipe:
        recipe = RECIPES[self.job.family]
        video = recipe.video and self._stage(recipe.video, "video")
        steps = self.options.tune_steps
        kinds: dict[StageName, tuple[Kind, ...]] = dict(recipe.kinds)
        if self.options.no_easyvqa:
            for name, cycle in kinds.items():
                kinds[name] = tuple("plain" if kind == "easy" else kind for kind in cycle)
        return dataclasses.replace(
            recipe,
            vision=self._stage(recipe.vision, "vision"),
            joint=self._stage(recipe.joint, "joint"),
            video=video,
            tune=steps if recipe.tune and steps is not None else recipe.tune,
            kinds=kinds,
        )

    def _stage(self, stage: Stage, name: str) -> Stage:
        """A stage with what the command line changes."""
        steps = getattr(self.options, f"{name}_steps")
        return dataclasses.replace(
            stage,
            steps=stage.steps if steps is None else steps,
            first_seed=stage.first_seed + _SPAN * self.job.seed,
        )

    def _place(self, name: str) -> Place:
        folder: Path = self.options.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        workers: int | None = self.options.workers
        if workers is None:
            workers = 8 if self.device.type == "cuda" else 0
        # processors without matrix units are a quarter faster in float32
        dtype = torch.bfloat16 if self.device.type == "cuda" else torch.float32
        return Place(self.device, dtype, folder, workers)


def _found(folder: Path) -> dict[str, float]:
    """What the last line of the vision stage's log says of each field."""
    row = json.loads((folder / "vision.jsonl").read_text().splitlines()[-1])
    names = [*(field.name for field in FIELDS), "found"]
    return {name: row[name] for name in names if name in row}


def export(model: Any, family: str, folder: Path) -> None:
    """Writes what plain ``from_pretrained`` reads: float16 weights, configuration, processor."""
    model.to("cpu", torch.float16).save_pretrained(folder)
    if family == "llava":
        _name_as_on_the_hub(folder / "model.safetensors")
    make_processor(family, make_tokenizer(family)).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    LOG.info("wrote %s", folder)


def _name_as_on_the_hub(file: Path) -> None:
    """Names the weights of CLIP's tower as published checkpoints do, and as serving engines look
    them up: transformers has taken a level out of them, and reads both.
    """
    weights = load_file(file)
    named = [re.sub(r"^vision_tower\.", "vision_tower.vision_model.", name) for name in weights]
    save_file(dict(zip(named, weights.values(), strict=True)), file, {"format": "pt"})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=main.__doc__)
    parser.add_argument(
        "what",
        choices=["all", "status", SHARED, *RECIPES],
        help="all that there is, how far it is, the shared decoder, or a family (which trains the"
        " decoder if need be). A second process with the same command takes other stages.",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/train"),
        help="checkpoints and logs; what is there is continued",
    )
    parser.add_argument(
        "--export",
        type=Path,
        help="where the finished checkpoint goes (<folder>/<family>/export); with all: its parent",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the weights and pictures of a family"
    )
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--workers", type=int, help="processes that draw pictures (8 for cuda, 0 for cpu)"
    )
    parser.add_argument(
        "--look", type=int, default=4, help="batches of each kind on which accuracy is measured"
    )
    parser.add_argument(
        "--no-easyvqa", action="store_true", help="train without the package easy-vqa"
    )
    parser.add_argument(
        "--no-align",
        action="store_true",
        help="ablation: start the joint stage from tokens near no words",
    )
    parser.add_argument(
        "--drop-ground",
        action="store_true",
        help="ablation: hide the tokens of plain ground in the joint stage",
    )
    for stage in STEPS:
        parser.add_argument(f"--{stage}-steps", type=int, help="instead of the recipe's")
    return parser


if __name__ == "__main__":
    sys.exit(main())
