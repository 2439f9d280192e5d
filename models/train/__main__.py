"""Trains one tiny checkpoint from nothing: ``python -m unibench.models.train qwen2_5_vl``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from unibench._compat import repair_torchvision

repair_torchvision()

from unibench.models.train._build import build
from unibench.models.train._evaluate import exact
from unibench.models.train._language import Answering, train_joint, train_language
from unibench.models.train._loop import Place
from unibench.models.train._processors import make_processor
from unibench.models.train._recipe import RECIPES, Recipe
from unibench.models.train._towers import TOWERS
from unibench.models.train._vision import Heads, make_wording, train_vision
from unibench.models.train._words import make_tokenizer, role_ids, vocabulary_size

LOG = logging.getLogger(__name__)
STAGES = ("vision", "language", "joint")
STEPS = ("vision", "easy", "language", "joint")
_SPAN = 500_000  # training pictures that belong to one seed


def main(argv: list[str] | None = None) -> None:
    """Trains, evaluates on pictures kept for that, writes the checkpoint."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    recipe = _recipe(options)
    place = _place(options)
    tokenizer = make_tokenizer(recipe.family)
    model = build(recipe, role_ids(recipe.family, tokenizer), vocabulary_size(tokenizer), options.seed).to(place.device)
    heads = Heads(TOWERS[recipe.family](model.model).last.in_features).to(place.device)
    LOG.info("%s: %.2f million parameters", recipe.family, sum(parameter.numel() for parameter in model.parameters()) / 1e6)
    train_vision(model, heads, recipe, place)
    if options.until == "vision":
        return
    wording = make_wording(model, heads, recipe, tokenizer, place) if recipe.align else None
    train_language(model, wording, recipe, tokenizer, place, easy=True)
    train_language(model, wording, recipe, tokenizer, place)
    _show(model, recipe, tokenizer, place)
    if options.until == "joint":
        train_joint(model, heads, recipe, tokenizer, place)
        _show(model, recipe, tokenizer, place)
    export(model, recipe.family, tokenizer, options.export or place.folder / "export")


def export(model: Any, family: str, tokenizer: Any, folder: Path) -> None:
    """Writes what plain ``from_pretrained`` reads: float16 weights, configuration, processor."""
    model.to("cpu", torch.float16).save_pretrained(folder)
    make_processor(family, tokenizer).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    LOG.info("wrote %s", folder)


def _show(model: Any, recipe: Recipe, tokenizer: Any, place: Place) -> None:
    for name, share in exact(Answering(model, recipe, tokenizer, place), recipe, batches=16).items():
        LOG.info("%-32s %.3f", name, share)


def _recipe(options: argparse.Namespace) -> Recipe:
    """The recipe of the family with what the command line changes."""
    recipe = RECIPES[options.family]
    changes = {}
    for name in STEPS:
        stage, steps = getattr(recipe, name), getattr(options, f"{name}_steps")
        steps, first_seed = stage.steps if steps is None else steps, stage.first_seed + _SPAN * options.seed
        changes[name] = dataclasses.replace(stage, steps=steps, first_seed=first_seed)
    return dataclasses.replace(recipe, align=recipe.align and not options.no_align, **changes)


def _place(options: argparse.Namespace) -> Place:
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    folder = options.folder or Path("outputs/train") / options.family
    folder.mkdir(parents=True, exist_ok=True)
    workers = options.workers if options.workers is not None else (8 if device.type == "cuda" else 0)
    return Place(device, torch.bfloat16, folder, workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m unibench.models.train", description=main.__doc__)
    parser.add_argument("family", choices=sorted(RECIPES))
    parser.add_argument("--folder", type=Path, help="checkpoints and logs; a run that was cut short continues (outputs/train/<family>)")
    parser.add_argument("--export", type=Path, help="where the finished checkpoint goes (<folder>/export)")
    parser.add_argument("--seed", type=int, default=0, help="of the weights and the training pictures")
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, help="processes that draw pictures (8 for cuda, 0 for cpu)")
    parser.add_argument("--until", choices=STAGES, default="joint", help="the last stage")
    parser.add_argument("--no-align", action="store_true", help="ablation: start the language stage from tokens near no words")
    for stage in STEPS:
        parser.add_argument(f"--{stage}-steps", type=int, help="instead of the recipe's")
    return parser


if __name__ == "__main__":
    main()
