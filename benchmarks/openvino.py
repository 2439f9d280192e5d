"""The CDPruner that OpenVINO GenAI has built in beside ours, on a CPU: kept sets, answers and the
time to the first token.

    python3.11 -m venv /tmp/openvino
    /tmp/openvino/bin/pip install torch==2.13.0 torchvision
    /tmp/openvino/bin/pip install optimum-intel==2.2.0 transformers==5.0.0 openvino==2026.4.1 \
        openvino-genai==2026.4.1.0 openvino-tokenizers==2026.4.1.0
    python -m benchmarks.openvino --python /tmp/openvino/bin/python

The two environments share files alone: :mod:`benchmarks._openvino_child` is OpenVINO's side.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from unibench._compat import repair_torchvision

repair_torchvision()

import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

import unibench
from benchmarks._openvino_child import count
from benchmarks._report import machine, seconds, short, spread, table
from unibench.config import model_path
from unibench.ops import cosine, cosine_pairs, quality_determinantal
from unibench.serving.parity import NEW_TOKENS, Answered, Case, cases, generated, prompt_of

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "results" / "serving" / "openvino.md"
PERCENTS = (67, 89)
# a decoder wide enough for its time to matter, with random weights
WIDE: Mapping[str, int] = {
    "hidden_size": 1024,
    "intermediate_size": 2816,
    "num_hidden_layers": 8,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
}
SIDES = {"tiny": 336, "wide": 896}  # of the square picture whose time is taken


@dataclass(frozen=True)
class Setting:
    """How OpenVINO's pipeline is asked to prune.

    Attributes:
        name: of the row.
        percent: of the visual tokens to REMOVE; 0 prunes nothing.
        weight: ``relevance_weight``.
        split: ``CDPRUNER_SPLIT_THRESHOLD``; None is its default, which halves every picture.
    """

    name: str
    percent: int = 0
    weight: float = 0.5
    split: str | None = None


def settings() -> list[Setting]:
    """Nothing removed, and each budget with its defaults, without halves, and as the paper."""
    found = [Setting("unpruned")]
    for percent in PERCENTS:
        found.append(Setting(f"{percent} %, defaults", percent))
        found.append(Setting(f"{percent} %, one pool", percent, split="0"))
        found.append(Setting(f"{percent} %, one pool, weight 1", percent, 1.0, "0"))
    return found


def kept_of(reply: Mapping[str, Any], start: int, total: int, unpruned: int) -> list[int]:
    """Tokens of a square picture that a recorded prompt still has.

    Args:
        reply: its ``prompt`` length, ``rows`` and ``columns``.
        start: tokens before the picture.
        total: visual tokens of the picture.
        unpruned: length of the whole prompt.

    >>> kept_of({"prompt": 5, "rows": [0, 1, 1, 2, 3], "columns": [0, 2, 1, 2, 3]}, 1, 4, 7)
    [1, 0]
    """
    stop, side = start + reply["prompt"] - (unpruned - total), math.isqrt(total)
    places = zip(reply["rows"][start:stop], reply["columns"][start:stop], strict=True)
    return [(row - start) * side + column - start for row, column in places]


# -- our side


def wide(source: Path, target: Path) -> Path:
    """Write a checkpoint with a wider decoder, random weights and the tiny model's processor."""
    config = AutoConfig.from_pretrained(source)
    text = config.text_config
    for name, value in WIDE.items():
        setattr(text, name, value)
    text.layer_types = ["full_attention"] * text.num_hidden_layers
    text.rope_parameters["mrope_section"] = [16, 24, 24]
    config.vision_config.out_hidden_size = text.hidden_size
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
    model.save_pretrained(target)
    processor = AutoProcessor.from_pretrained(source)
    processor.image_processor.size["longest_edge"] = SIDES["wide"] ** 2
    processor.save_pretrained(target)
    return target


@dataclass(frozen=True)
class Reference:
    """A case as Hugging Face and unibench see it.

    Attributes:
        start: tokens before the picture.
        features: ``[N, D]``.
        text: ``[T, D]`` embeddings outside the picture.
        length: of the prompt.
        answers: by ratio removed in percent; 0 is unpruned.
    """

    start: int
    features: Tensor
    text: Tensor
    length: int
    answers: Mapping[int, Answered]


def references(folder: Path, asked: Sequence[Case]) -> list[Reference]:
    """Answers of ``generate``, unpruned and under each budget."""
    processor, model = _opened(folder)
    answers = [{0: generated(model, processor, None, case)} for case in asked]
    for percent in PERCENTS:
        with _pruned(model, processor, percent) as session:
            for case, found in zip(asked, answers, strict=True):
                session.samples = [case.id]
                found[percent] = generated(model, processor, session, case)
    return [
        _reference(model, processor, case, found)
        for case, found in zip(asked, answers, strict=True)
    ]


@torch.inference_mode()
def _reference(model: Any, processor: Any, case: Case, found: dict[int, Answered]) -> Reference:
    inputs = processor(
        images=list(case.images), text=prompt_of(processor, case), return_tensors="pt"
    )
    (ids,) = inputs["input_ids"]
    visual = (ids == model.config.image_token_id).nonzero()[:, 0]
    (features,) = model.model.get_image_features(
        inputs["pixel_values"], inputs["image_grid_thw"]
    ).pooler_output
    first, last = int(visual[0]), int(visual[-1])
    # neither the picture nor the two tokens around it
    outside = torch.cat([ids[: first - 1], ids[last + 2 :]])
    text = model.get_input_embeddings()(outside)
    return Reference(first, features, text, len(ids), found)


def _opened(folder: Path) -> tuple[Any, Any]:
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    )
    return processor, model.eval()


def _pruned(model: Any, processor: Any, percent: int) -> Any:
    return unibench.prune(
        model,
        "cdpruner",
        processor=processor,
        ratio=f"0.{percent}",
        scope="item",
        relevance="embedding",
    )


def our_times(
    folder: Path, picture: Image.Image, prompt: str, rounds: int
) -> dict[int, list[float]]:
    """Processor seconds from picture and prompt to the first token, the budgets taking turns."""
    processor, model = _opened(folder)

    def first() -> None:
        inputs = processor(images=[picture], text=prompt, return_tensors="pt")
        model.generate(**inputs, do_sample=False, max_new_tokens=1)

    found: dict[int, list[float]] = {percent: [] for percent in (0, *PERCENTS)}
    with torch.inference_mode():
        for turn in range(-1, rounds):
            for percent, times in found.items():
                with _pruned(model, processor, percent) if percent else nullcontext():
                    if percent:
                        first()  # a new session looks for the question's place once
                    taken = seconds(first)
                if turn >= 0:  # the first turn is a warm-up
                    times.append(taken)
    return found


def our_selection(total: int, width: int, percent: int, rounds: int) -> float:
    """Median processor seconds of choosing among drawn tokens."""
    features = torch.randn(total, width, generator=torch.Generator().manual_seed(0))
    question = torch.randn(16, width, generator=torch.Generator().manual_seed(1))
    keep = count(total, percent)

    def select() -> None:
        relevance = cosine(features, question).mean(1)
        quality_determinantal(cosine_pairs(features), relevance, keep)

    select()
    return median(seconds(select) for _ in range(rounds))


# -- both sides


def asked_of(
    root: Path,
    checkpoints: Mapping[str, Path],
    asked: Sequence[Case],
    ours: Sequence[Reference],
    rounds: int,
) -> None:
    """Write pictures, features and ``asked.json`` for the child."""
    features = {}
    for case, reference in zip(asked, ours, strict=True):
        features[f"{case.id}.features"] = reference.features.contiguous()
        features[f"{case.id}.text"] = reference.text.contiguous()
    save_file(features, root / "features.safetensors")
    processor = AutoProcessor.from_pretrained(checkpoints["tiny"])
    prompts, files = [prompt_of(processor, case) for case in asked], []
    for number, case in enumerate(asked):
        files.append(str(root / f"{number}.png"))
        case.images[0].save(files[-1])
    costs = []
    for name, checkpoint in checkpoints.items():
        picture = root / f"{name}.png"
        asked[0].images[0].resize((SIDES[name], SIDES[name])).save(picture)
        costs.append(
            {
                "name": name,
                "checkpoint": str(checkpoint),
                "picture": str(picture),
                "prompt": prompts[0],
                "rounds": rounds,
                "settings": [asdict(Setting("0"))]
                + [asdict(Setting(str(percent), percent)) for percent in PERCENTS],
            }
        )
    parity = {
        "name": "tiny",
        "checkpoint": str(checkpoints["tiny"]),
        "features": str(root / "features.safetensors"),
        "settings": [asdict(setting) for setting in settings()],
        "new_tokens": NEW_TOKENS,
        "cases": [
            {"id": case.id, "prompt": prompt, "picture": file}
            for case, prompt, file in zip(asked, prompts, files, strict=True)
        ],
    }
    text = json.dumps({"parity": parity, "cost": costs})
    (root / "asked.json").write_text(text, encoding="utf-8")


def replies_of(python: str, root: Path) -> dict[str, Any]:
    """What the other environment answers."""
    # the package of that environment, not this module, is its `openvino`: -m keeps them apart
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
    words = [python, "-m", "benchmarks._openvino_child", str(root)]
    subprocess.run(words, check=True, cwd=ROOT, env=environment)
    found: dict[str, Any] = json.loads((root / "replies.json").read_text(encoding="utf-8"))
    return found


def parity_row(
    setting: Setting,
    asked: Sequence[Case],
    ours: Sequence[Reference],
    replies: Mapping[str, Mapping[str, Any]],
    rule: Mapping[str, Mapping[str, list[int]]],
) -> list[str]:
    """A line of a setting; replies and what the rule keeps are by case."""
    equal = right = same = moved = 0
    counts, shares, in_float32 = set[int](), list[float](), list[float]()
    for case, reference in zip(asked, ours, strict=True):
        reply, total = replies[case.id], len(reference.features)
        answer, said = reference.answers[setting.percent], reply["text"].strip()
        equal += said == answer.text
        right += said == case.answers[0]
        kept = kept_of(reply, reference.start, total, reference.length)
        counts.add(len(kept))
        # text behind a picture of Qwen2.5-VL starts one beyond the picture's longer side
        behind = reply["rows"][reference.start + len(kept)]
        moved += behind != reference.start + math.isqrt(total)
        if setting.percent:
            own = set(answer.kept[0])
            shares.append(len(own & set(kept)) / len(own))
            in_float32.append(len(own & set(rule[case.id]["float32"])) / len(own))
            same += kept == rule[case.id]["default"]
    number, pruned = len(asked), setting.percent > 0
    return [
        setting.name,
        ", ".join(map(str, sorted(counts))),
        f"{equal} of {number}",
        f"{right}",
        _shares(shares) if pruned else "-",
        _shares(in_float32) if pruned else "-",
        f"{same} of {number}" if pruned else "-",
        f"{moved} of {number}",
    ]


def _shares(values: Sequence[float]) -> str:
    return f"{median(values):.0%} ({min(values):.0%}-{max(values):.0%})"


def cost_rows(
    name: str,
    total: int,
    ours: Mapping[int, Sequence[float]],
    replies: Sequence[Mapping[str, Any]],
) -> list[list[str]]:
    """A line for each budget of a checkpoint: ratios to unpruned, turn by turn."""
    rows, times, without = [], dict[int, list[float]](), dict[int, list[float]]()
    for percent in ours:
        turns = [one for one in replies if (one["name"], one["setting"]) == (name, str(percent))]
        times[percent] = [turn["seconds"] for turn in turns]
        without[percent] = [turn["recorder"] for turn in turns]
    for percent, own in ours.items():
        row = [f"{name}, {percent} %", str(count(total, percent))]
        row += [short(median(times[percent])), short(median(own))]
        if percent:
            extra = [a - b for a, b in zip(without[percent], without[0], strict=True)]
            width = WIDE["hidden_size"] if name == "wide" else 160
            selection = our_selection(total, width, percent, len(own))
            row += [_ratios(times[percent], times[0]), _ratios(own, ours[0])]
            row += [str(spread([1e3 * value for value in extra])), short(1e3 * selection)]
        rows.append(row + ["-"] * (8 - len(row)))
    return rows


def _ratios(values: Sequence[float], base: Sequence[float]) -> str:
    return str(spread([a / b for a, b in zip(values, base, strict=True)]))


PARITY = (
    *("tokens removed, rule", "kept", "answers as ours", "right", "kept by both"),
    *("kept by both in float32", "sets as the rule", "text moved"),
)
COST = (
    *("model, tokens removed", "tokens", "OpenVINO, s", "ours, s", "OpenVINO / unpruned"),
    *("ours / unpruned", "OpenVINO's choice, ms", "ours, ms"),
)


def page(
    asked: Sequence[Case],
    ours: Sequence[Reference],
    replies: Mapping[str, Any],
    cost: Sequence[Sequence[str]],
    words: str,
) -> str:
    """The page of results."""
    parity = []
    for setting in settings():
        said = {r["case"]: r for r in replies["parity"] if r["setting"] == setting.name}
        rule = {r["case"]: r for r in replies["rule"] if r["setting"] == setting.name}
        parity.append(parity_row(setting, asked, ours, said, rule))
    right = {
        percent: sum(
            one.answers[percent].text == case.answers[0]
            for case, one in zip(asked, ours, strict=True)
        )
        for percent in (0, *PERCENTS)
    }
    own = ", ".join(f"{number} at {percent} %" for percent, number in right.items())
    versions = ", ".join(f"{name} {number}" for name, number in replies["versions"].items())
    lines = [
        "# CDPruner of OpenVINO GenAI and ours",
        "",
        f"OpenVINO: {versions}. Ours: Hugging Face under `unibench.prune(...,"
        ' "cdpruner", relevance="embedding", scope="item")`.',
        "",
        f"    {words}",
        "",
        "## Answers and kept sets",
        "",
        f"{len(asked)} questions of synthvqa on the tiny Qwen2.5-VL, 144 visual tokens each. Ours"
        f" answers right: {own}. *kept by both*: share of our tokens, median with the"
        " smallest and the largest. *in float32*: of OpenVINO's rule written again and computed in"
        " float32. *sets as the rule*: pictures whose tokens are those of the rule with the kernel"
        " in OpenVINO's default precision. *text moved*: prompts whose text behind the picture"
        " starts at another position than unpruned.",
        "",
        *table(PARITY, parity),
        "",
        "## Time to the first token",
        "",
        "Processor seconds of one thread from picture and prompt to the first token, budgets"
        " taking turns: medians, and ratios and differences turn by turn with their quartiles."
        f" *wide*: a decoder of {WIDE['num_hidden_layers']} layers, {WIDE['hidden_size']} wide,"
        " with random weights, behind the tiny vision tower. *choice*: OpenVINO's pipeline with a"
        " decoder that computes nothing, pruned minus unpruned; ours: relevance, cosines and"
        " greedy choice.",
        "",
        *table(COST, cost),
        "",
        machine(),
        "",
    ]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Ask both sides and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.openvino")
    parser.add_argument("--python", required=True, help="of the environment with OpenVINO GenAI")
    parser.add_argument("--limit", type=int, default=24, help="questions")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each budget")
    parser.add_argument("--work", type=Path, help="keep checkpoints and exported models here")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        root = (given.work or Path(place)).absolute()
        root.mkdir(parents=True, exist_ok=True)
        tiny = model_path("pkg://unibench.models/tiny/qwen2_5_vl")
        assert tiny is not None
        checkpoints = {"tiny": tiny, "wide": wide(tiny, root / "wide")}
        asked = cases(given.limit, "plain")
        ours = references(tiny, asked)
        asked_of(root, checkpoints, asked, ours, given.rounds)
        replies = replies_of(given.python, root)
        cost = []
        for name, folder in checkpoints.items():
            with Image.open(root / f"{name}.png") as picture:
                prompt = prompt_of(AutoProcessor.from_pretrained(folder), asked[0])
                times = our_times(folder, picture.convert("RGB"), prompt, given.rounds)
            cost += cost_rows(name, (SIDES[name] // 28) ** 2, times, replies["cost"])
    options = f" --limit {given.limit} --rounds {given.rounds}"
    words = f"python -m benchmarks.openvino --python <environment>/bin/python{options}"
    text = page(asked, ours, replies, cost, words)
    print(text)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
