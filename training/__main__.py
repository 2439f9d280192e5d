"""Trains a tiny checkpoint from nothing: ``python -m training qwen2_5_vl``."""

from __future__ import annotations

import argparse
import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch

from unibench._compat import repair_torchvision

repair_torchvision()

from training._build import build
from training._evaluate import exact
from training._joint import train_joint
from training._language import FAMILY, adopt, train_language
from training._loop import Place
from training._processors import make_processor
from training._recipe import RECIPES, Language, Stage
from training._towers import TOWERS
from training._vision import Heads, train_vision
from training._wording import Wording
from training._words import make_tokenizer, role_ids, vocabulary_size

LOG = logging.getLogger(__name__)
SHARED = "language"
STAGES = (SHARED, "vision", "joint")
_SPAN = 500_000  # training pictures that belong to one seed


def main(argv: list[str] | None = None) -> None:
    """Trains, evaluates on pictures kept for that, writes the checkpoint."""
    options = _parser().parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    torch.set_num_threads(options.threads)
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if options.what == SHARED:
        shared(options, device)
    else:
        family(options, device)


def shared(options: argparse.Namespace, device: torch.device) -> tuple[Any, Wording]:
    """The decoder of all three and the words that its visual tokens are made of: trained, or what
    is left of that.
    """
    recipe, tokenizer = Language(), make_tokenizer(FAMILY)
    recipe = dataclasses.replace(recipe, stage=_stage(recipe.stage, options, SHARED))
    model = build(
        RECIPES[FAMILY], role_ids(FAMILY, tokenizer), vocabulary_size(tokenizer), options.seed
    ).to(device)
    spread = float(model.model.language_model.embed_tokens.weight.detach().std())
    wording = Wording(RECIPES[FAMILY].width, tokenizer, spread).to(device)
    train_language(model, wording, recipe, tokenizer, _place(options, device, SHARED))
    return model, wording


def family(options: argparse.Namespace, device: torch.device) -> None:
    """One of the three models, around the shared decoder."""
    recipe = RECIPES[options.what]
    recipe = dataclasses.replace(
        recipe,
        vision=_stage(recipe.vision, options, "vision"),
        joint=_stage(recipe.joint, options, "joint"),
    )
    place, tokenizer = _place(options, device, recipe.family), make_tokenizer(recipe.family)
    model = build(
        recipe, role_ids(recipe.family, tokenizer), vocabulary_size(tokenizer), options.seed
    ).to(device)
    tower = TOWERS[recipe.family](model.model)
    heads = Heads(tower.last.in_features).to(device)
    LOG.info(
        "%s: %.2f million parameters",
        recipe.family,
        sum(parameter.numel() for parameter in model.parameters()) / 1e6,
    )
    train_vision(model, heads, recipe, place)
    if options.vision_only:
        return
    source, wording = shared(options, device)
    adopt(model, recipe.family, tokenizer, source.model.language_model, make_tokenizer(FAMILY))
    if not options.no_align:
        wording.fold(tower.last, heads.estimate, source.model.language_model.embed_tokens.weight)
    train_joint(model, heads, recipe, tokenizer, place, options.drop_ground)
    for name, share in exact(model, recipe, tokenizer, place, batches=16).items():
        LOG.info("%-32s %.3f", name, share)
    export(model, recipe.family, tokenizer, options.export or place.folder / "export")


def export(model: Any, family: str, tokenizer: Any, folder: Path) -> None:
    """Writes what plain ``from_pretrained`` reads: float16 weights, configuration, processor."""
    model.to("cpu", torch.float16).save_pretrained(folder)
    make_processor(family, tokenizer).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)
    LOG.info("wrote %s", folder)


def _stage(stage: Stage, options: argparse.Namespace, name: str) -> Stage:
    """A stage with what the command line changes."""
    steps = getattr(options, f"{name}_steps")
    return dataclasses.replace(
        stage,
        steps=stage.steps if steps is None else steps,
        first_seed=stage.first_seed + _SPAN * options.seed,
    )


def _place(options: argparse.Namespace, device: torch.device, name: str) -> Place:
    folder: Path = options.folder / name
    folder.mkdir(parents=True, exist_ok=True)
    workers = (
        options.workers if options.workers is not None else (8 if device.type == "cuda" else 0)
    )
    return Place(device, torch.bfloat16, folder, workers)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description=main.__doc__)
    parser.add_argument(
        "what",
        choices=[SHARED, *RECIPES],
        help="the shared decoder, or a family (which trains the decoder if need be)",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("outputs/train"),
        help="checkpoints and logs; what is there is continued",
    )
    parser.add_argument(
        "--export", type=Path, help="where the finished checkpoint goes (<folder>/export)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the weights and the training pictures"
    )
    parser.add_argument("--device", help="cuda where there is one, else cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--workers", type=int, help="processes that draw pictures (8 for cuda, 0 for cpu)"
    )
    parser.add_argument(
        "--vision-only",
        action="store_true",
        help="stop before the stage that needs the shared decoder",
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
    for stage in STAGES:
        parser.add_argument(f"--{stage}-steps", type=int, help="instead of the recipe's")
    return parser


if __name__ == "__main__":
    main()
