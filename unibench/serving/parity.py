"""Whether vLLM answers as Hugging Face with unibench does: a table of families and methods.

    .venv-serve/bin/python -m unibench.serving.parity

Both sides run in the serving environment: a model of Hugging Face under ``unibench.prune(...,
scope="item")``, then vLLM with the plugin, asked one by one, all at once, all at once again from
its caches, and with prompts read in chunks. Each cell is kept in the folder of results, so that a
command that was cut short goes on; the page is made of all that are there.
"""

from __future__ import annotations

import argparse
import json
import sys
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from PIL.Image import Image

from unibench.errors import UsageError
from unibench.pruning.record import unpacked
from unibench.serving.checkpoints import FAMILIES, made
from unibench.serving.engine import Engine, Reply, Request, environment, traced
from unibench.serving.fields import BETWEEN, digest
from unibench.serving.settings import Settings

NEW_TOKENS, TOP = 8, 5
PASSES = ("one by one", "at once", "again", "chunked")
# a prompt of these models is shorter than vLLM's blocks for CPUs (128), which would never be shared
OPTIONS: Mapping[str, Any] = {
    "dtype": "float32",
    "enforce_eager": True,
    "max_model_len": 1024,
    "max_num_seqs": 8,
    "block_size": 32,
}
CHUNK = 40  # tokens of a step in the chunked pass
LARGER = {"llava_onevision": 72}  # whose pictures vLLM takes to be smaller than they are
Kind = Literal["mixed", "plain"]


@dataclass(frozen=True)
class Setup:
    """One line of the table.

    Attributes:
        family: of the checkpoint.
        settings: of pruning, None for vanilla.
        kind: ``mixed``: tall, wide and square pictures, two in every fourth prompt, none in every
            eighth; ``plain``: one picture as it is.
    """

    family: str
    settings: Settings | None
    kind: Kind = "mixed"

    @property
    def name(self) -> str:
        """Of the line and its file."""
        if self.settings is None:
            return f"{self.family} vanilla"
        settings = self.settings
        more = [f"{key}={value}" for key, value in settings.parameters.items()]
        more += [] if settings.positions == "original" else [settings.positions]
        return f"{self.family} {' '.join([settings.method, settings.budget.label, *more])}"


@dataclass(frozen=True)
class Case:
    """A question with its pictures."""

    id: str
    question: str
    answers: tuple[str, ...]
    images: tuple[Image, ...]


@dataclass(frozen=True)
class Answered:
    """What one side says to a case.

    Attributes:
        text: of the answer.
        tokens: of the answer.
        first: logarithms of the first token's likeliest probabilities.
        kept: places of the tokens that stayed of each picture.
    """

    text: str
    tokens: tuple[int, ...]
    first: Mapping[int, float]
    kept: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        name: of the setup.
        kind: of the prompts.
        cases: how many.
        right: of the reference.
        equal: answers that are equal token by token, by pass.
        apart: the largest difference of first log probabilities, by pass.
        kept: pictures whose kept sets are equal, by pass.
        pictures: how many there are.
        cached: tokens of all prompts, and those in the prefix cache, by pass.
        differ: the answers that are not equal.
    """

    name: str
    kind: str
    cases: int
    right: int
    equal: dict[str, int] = field(default_factory=dict)
    apart: dict[str, float] = field(default_factory=dict)
    kept: dict[str, int] = field(default_factory=dict)
    pictures: int = 0
    cached: dict[str, tuple[int, int]] = field(default_factory=dict)
    differ: list[str] = field(default_factory=list)
    failed: str = ""


def cases(limit: int, kind: Kind) -> list[Case]:
    """Questions of synthvqa."""
    from unibench.tasks.synthvqa import SynthVQA

    rows = list(SynthVQA().samples(limit + 40))
    found = []
    for number, row in enumerate(rows[:limit]):
        images = [row.images[0]]
        if kind == "mixed":
            images = [_shaped(row.images[0], number)]
            if number % 8 == 7:
                images = []
            elif number % 4 == 3:
                images.append(_shaped(rows[number + 40].images[0], number + 1))
        found.append(Case(row.id, row.question, tuple(row.answers), tuple(images)))
    return found


def _shaped(picture: Image, number: int) -> Image:
    """Every third picture half as wide, every third half as tall."""
    width, height = picture.size
    return picture.resize([(width, height), (width // 2, height), (width, height // 2)][number % 3])


def prompt_of(processor: Any, case: Case) -> str:
    """The chat template around pictures and question."""
    content = [*({"type": "image"} for _ in case.images), {"type": "text", "text": case.question}]
    text: str = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return text


# -- the two sides


def reference(folder: Path, asked: Sequence[Case], settings: Settings | None) -> list[Answered]:
    """The answers of Hugging Face's ``generate``, pruned by unibench."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import unibench

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa"
    ).eval()
    found = []
    with ExitStack() as stack:
        session: Any = None
        if settings is not None:
            session = stack.enter_context(
                unibench.prune(
                    model,
                    settings.method,
                    processor=processor,
                    ratio=settings.ratio,
                    retention=settings.retention,
                    keep=settings.keep,
                    scope="item",  # an engine encodes a picture once for all prompts
                    seed=settings.seed,
                    positions=settings.positions,
                    **settings.parameters,
                )
            )
        for case in asked:
            if session is not None:
                # the engine draws for a picture by its digest
                session.samples = [f"{digest(case.images[0]):016x}" if case.images else ""]
            found.append(generated(model, processor, session, case))
    return found


def generated(model: Any, processor: Any, session: Any, case: Case) -> Answered:
    """The answer of a model of Hugging Face; of a session that prunes it, None without one."""
    text = prompt_of(processor, case)
    inputs = processor(images=list(case.images) or None, text=text, return_tensors="pt")
    inputs = inputs.to(model.device)
    with torch.no_grad():
        out = model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=NEW_TOKENS,
            return_dict_in_generate=True,
            output_logits=True,
        )
    tokens = out.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    kept: list[tuple[int, ...]] = []
    if session is not None:
        (record,) = session.take_records()
        session.take_times()
        mask = unpacked(record.last, record.visual_tokens)
        for item in record.items:
            kept.append(tuple(mask[item.start : item.stop].nonzero()[:, 0].tolist()))
    values, places = out.logits[0][0].float().log_softmax(-1).topk(TOP)
    return Answered(
        processor.tokenizer.decode(tokens, skip_special_tokens=True).strip(),
        tuple(tokens),
        dict(zip(places.tolist(), values.tolist(), strict=True)),
        tuple(kept),
    )


def passes(
    folder: Path, asked: Sequence[Case], settings: Settings | None, videos: bool
) -> Iterator[tuple[str, list[Reply]]]:
    """vLLM's replies in each pass."""
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    requests = [Request(prompt_of(processor, case), case.images) for case in asked]
    limits = {"limit_mm_per_prompt": {"image": 2, **({"video": 0} if videos else {})}}
    engine = Engine(folder, settings, **{**OPTIONS, **limits, "max_num_batched_tokens": 1024})
    try:
        alone = [engine.ask([request], NEW_TOKENS, top=TOP)[0] for request in requests]
        yield PASSES[0], alone
        # what lies in the caches now is what the first pass left there
        for name in PASSES[1:3]:
            yield name, engine.ask(requests, NEW_TOKENS, top=TOP)
    finally:
        engine.close()
    chunk = LARGER.get(folder.name, CHUNK)
    chunked = {"max_num_batched_tokens": chunk, "max_num_seqs": 4, "enable_prefix_caching": False}
    engine = Engine(folder, settings, **{**OPTIONS, **limits, **chunked})
    try:
        yield PASSES[3], engine.ask(requests, NEW_TOKENS, top=TOP)
    finally:
        engine.close()


def line_of(setup: Setup, root: Path, limit: int) -> Line:
    """Run one line."""
    folder, asked = made(setup.family, root / "models"), cases(limit, setup.kind)
    wanted = reference(folder, asked, setup.settings)
    trace = root / "trace" / f"{setup.name.replace(' ', '_')}.jsonl"
    settings = None
    if setup.settings is not None:
        trace.parent.mkdir(parents=True, exist_ok=True)
        settings = Settings(**{**asdict(setup.settings), "trace": str(trace.absolute())})
    found = Line(
        setup.name,
        setup.kind,
        len(asked),
        sum(map(_is_right, wanted, asked)),
        pictures=sum(len(one.kept) for one in wanted),
    )
    videos = setup.family != "llava"
    trace.unlink(missing_ok=True)
    for name, replies in passes(folder, asked, settings, videos):
        _compare(found, name, wanted, replies, asked, trace)
        print(f"{setup.name}: {name}: {found.equal[name]}/{len(asked)} equal,"
              f" {found.apart[name]:.1e} apart, {found.kept.get(name, 0)}/{found.pictures} sets",
              flush=True)  # fmt: skip
    return found


def _is_right(answered: Answered, case: Case) -> bool:
    return answered.text.lower() in [text.lower() for text in case.answers]


def _compare(
    found: Line,
    name: str,
    wanted: Sequence[Answered],
    replies: Sequence[Reply],
    asked: Sequence[Case],
    trace: Path,
) -> None:
    """Add a pass to a line."""
    pairs = list(zip(wanted, replies, strict=True))
    found.equal[name] = sum(one.tokens == two.tokens for one, two in pairs)
    apart = [
        abs(one.first[token] - two.first[token])
        for one, two in pairs
        for token in set(one.first) & set(two.first)
    ]
    found.apart[name] = max(apart, default=float("nan"))
    found.cached[name] = sum(len(two.prompt) for two in replies), sum(two.cached for two in replies)
    seen: dict[str, set[tuple[int, ...]]] = {}
    for picture in traced(trace):
        seen.setdefault(picture.picture.partition(BETWEEN)[0], set()).add(picture.kept)
    found.kept[name] = 0
    for one, case in zip(wanted, asked, strict=True):
        for kept, image in zip(one.kept, case.images, strict=False):
            found.kept[name] += kept in seen.get(f"{digest(image):016x}", ())
    for (one, two), case in zip(pairs, asked, strict=True):
        if one.tokens != two.tokens:
            ranked = sorted(one.first.values(), reverse=True)
            margin = ranked[0] - ranked[1]
            found.differ.append(f"{name}: {case.id}: {one.text!r} {two.text!r} margin {margin:.1e}")


# -- the table


def setups(families: Sequence[str]) -> Iterator[Setup]:
    """The lines of the page, those that say most first."""
    for family in families:
        yield Setup(family, Settings("divprune", ratio="0.667"))
    relevance = {"relevance": "embedding"}
    for family in families:
        yield Setup(family, Settings("cdpruner", ratio="0.667", parameters=relevance))
    for family in families:
        yield Setup(family, None)
    for family in families:
        if family in ("qwen2_5_vl", "llava"):
            yield Setup(family, Settings("cdpruner", ratio="0.889", parameters=relevance))
            yield Setup(family, Settings("divprune", ratio="0.667", positions="compact"))
            yield Setup(family, Settings("uniform_grid", keep=16))
            yield Setup(family, Settings("trimtokenator", ratio="0.778"))
            yield Setup(family, Settings("random_pre", ratio="0.778"), kind="plain")


def page(lines: Sequence[Line], command: str, versions: str) -> str:
    """The table as Markdown."""
    text = [
        "# Parity of vLLM with Hugging Face + unibench",
        "",
        f"Tiny models, float32, on a CPU; {versions}. Reference: `generate()` under"
        ' `unibench.prune(..., scope="item")` in the same environment. Each cell: answers that are'
        " equal token by token / largest difference of first log probabilities / kept sets that are"
        " equal. mixed: tall, wide and square pictures, two in every fourth prompt, none in every"
        f" eighth. chunked: {CHUNK} tokens of a prompt in a step. cached: prompt tokens from the"
        " prefix cache when asked again. Where kept sets differ, the method keeps more tokens than"
        " its features decide (docs/serving.md). Qwen2-VL, Qwen3-VL and LLaVA-OneVision have random"
        " weights.",
        "",
        f"    {command}",
        "",
        f"| family, method, budget | prompts | right | {' | '.join(PASSES)} | cached |",
        f"|---|---|---|{'---|' * (len(PASSES) + 1)}",
    ]
    for line in lines:
        if line.failed:
            text.append(f"| {line.name} | {line.cases} {line.kind} | failed: {line.failed} |")
            continue
        cells = [
            f"{line.equal[name]}/{line.cases}, {line.apart[name]:.1e}"
            + (f", {line.kept[name]}/{line.pictures}" if line.pictures else "")
            for name in PASSES
            if name in line.equal
        ]
        total, cached = line.cached.get("again", (0, 0))
        text.append(
            f"| {line.name} | {line.cases} {line.kind} | {line.right} | {' | '.join(cells)} |"
            f" {cached} of {total} |"
        )
    differ = [f"- {line.name}: {one}" for line in lines for one in line.differ]
    text += ["", "Answers that differ:" if differ else "No answer differs.", "", *differ]
    return "\n".join(text).rstrip() + "\n"


def main(arguments: Sequence[str]) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m unibench.serving.parity")
    parser.add_argument("--families", default=",".join(FAMILIES))
    parser.add_argument("--limit", type=int, default=16, help="questions of each line")
    parser.add_argument("--only", default="", help="lines whose name has this word")
    parser.add_argument("--out", type=Path, default=Path("outputs/serving/parity"))
    parser.add_argument("--page", type=Path, default=Path("results/serving/parity.md"))
    given = parser.parse_args(arguments)
    environment()
    torch.set_num_threads(1)
    from unibench.serving import _vllm

    given.out.mkdir(parents=True, exist_ok=True)
    chosen = list(setups(given.families.split(",")))
    for setup in chosen:
        file = given.out / f"{setup.name.replace(' ', '_')}.json"
        if given.only not in setup.name or file.exists():
            continue
        try:
            line = line_of(setup, given.out, given.limit)
        except Exception as error:  # the other lines are worth having
            traceback.print_exc()
            reason = " ".join(str(error).split())[:160]
            print(f"{setup.name}: {type(error).__name__}: {reason}", flush=True)
            continue
        file.write_text(json.dumps(asdict(line), indent=1), encoding="utf-8")
        lines = [_read(one, given.out) for one in chosen]
        whole = [one for one in lines if one is not None]
        import transformers

        distribution, version = _vllm.installed()
        versions = f"{distribution} {version}, transformers {transformers.__version__}"
        given.page.parent.mkdir(parents=True, exist_ok=True)
        command = ".venv-serve/bin/python -m unibench.serving.parity"
        given.page.write_text(page(whole, command, versions), encoding="utf-8")
    return 0


def _read(setup: Setup, out: Path) -> Line | None:
    file = out / f"{setup.name.replace(' ', '_')}.json"
    return Line(**json.loads(file.read_text(encoding="utf-8"))) if file.exists() else None


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
