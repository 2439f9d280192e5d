"""What each verb takes: its options, its settings, and examples for its help page.

Nothing here loads more than the standard library: a help page and a mistyped option are answered at
once.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection

from unibench.cli.parser import Parser, count, natural, one_of, positive, real

KINDS = {
    "methods": "method",
    "models": "model",
    "tasks": "task",
    "suites": "suite",
    "experiments": "experiment",
}
ENGINES = ("slurm", "ray", "local")
FORMATS = ("md", "tex", "html", "csv")
MODES = ("published", "ours", "difference")
PLOTS = ("ratio", "pareto", "bars", "heat", "radar", "ranks", "size", "frames")
STUDIES = ("tradeoff", "angles", "sweep", "size")
CALIBRATED = ("vtw", "fitprune", "mustdrop", "d2pruner")
FILTERS = (
    *("model", "family", "task", "method", "variant", "params", "source", "budget", "ratio"),
    *("budget_mode", "budget_scope", "positions", "weights", "dtype", "attn", "batch", "pixels"),
    *("max_new_tokens", "harness", "harness_version", "wrapper", "judge", "n", "data", "code"),
    *("setting", "device", "key", "text_after_video"),
)  # columns of results; a test holds them to those that the frame knows


def run(parser: Parser) -> None:
    """The command without a verb."""
    parser.takes("[-m] key=value ... [options]", overrides=True)
    _sweep(parser)
    parser.option("--cfg", "WHAT", "print the configuration: job, hydra or all")
    parser.option("--package", "KEY", "with --cfg: only this part of it, for example method")
    parser.flag("--resolve", "with --cfg: with interpolations resolved")
    parser.option(
        "--info", "WHAT", "what Hydra knows: all, config, defaults, ...", nargs="?", const="all"
    )
    parser.examples(
        "model=qwen2_5_vl_7b method=divprune ratio=0.889 task=pope harness=lmms_eval",
        "-m method=divprune,fastv ratio=0.667,0.889 task.limit=200",
        "method=fastv method.layer=3 --cfg job",
    )


def plan(parser: Parser) -> None:
    """State of every cell."""
    parser.takes("[-m] key=value ... [options]", overrides=True)
    _sweep(parser)
    parser.flag("--failed", "list failed cells only")
    parser.flag("--json", "print everything as JSON")
    parser.option("--probe", "N", "answer N samples where no time is known", type=count)
    parser.examples(
        "-m method=divprune,fastv ratio=0.667,0.889",
        "experiment=uniprunebench_table5 --failed",
        "-m method=divprune,fastv model=qwen2_5_vl_7b --probe 3",
    )


def work(parser: Parser) -> None:
    """Several workers here."""
    parser.takes("[-m] key=value ... [options]", overrides=True)
    _sweep(parser)
    parser.option("--processes", "N", "number of worker processes (1)", type=count)
    parser.option("--gpus", "0,1", "one worker process for each of these GPUs", type=_gpus)
    _workers(parser)
    parser.examples(
        "-m method=divprune,fastv ratio=0.667,0.889 --processes 2",
        "experiment=idpruner_table1 --gpus 0,1,2,3 --retry",
        "model=tiny_llava method=vanilla task.limit=5000 shards=8 --processes 2",
    )


def submit(parser: Parser) -> None:
    """Workers on a cluster."""
    parser.takes("[-m] key=value ... cluster=WHERE [options]", overrides=True)
    _sweep(parser)
    parser.option("--workers", "N", "number of workers (1)", type=count, default=1)
    _resources(parser)
    _workers(parser)
    parser.examples(
        "-m method=divprune,fastv ratio=0.667,0.889 cluster=slurm --workers 4 --gpus 1",
        "experiment=idpruner_table1 cluster=ray --address auto --workers 8 --gpus 1",
        "-m method=divprune,fastv cluster=local --workers 2",
    )


def prefetch(parser: Parser) -> None:
    """What a grid needs from the network."""
    parser.takes("[-m] key=value ...", overrides=True)
    _sweep(parser)
    parser.examples(
        "model=qwen2_5_vl_7b task=pope harness=lmms_eval", "experiment=uniprunebench_table3"
    )


def doctor(parser: Parser) -> None:
    """What is installed."""
    parser.takes("[options] [[-m] key=value ... cluster=WHERE]", overrides=True)
    _sweep(parser)
    parser.flag("--import", "import both harnesses as well (half a minute)", dest="importing")
    parser.option(
        "--nodes", "N", "with cluster=: number of nodes to ask (1)", type=count, default=1
    )
    _resources(parser)
    parser.examples("--import", "-m method=divprune,fastv cluster=slurm --nodes 2 --partition gpu")


def check(parser: Parser) -> None:
    """The rules that every method relies on."""
    parser.takes("model=NAME[,NAME ...] [attn=sdpa,eager]")
    parser.setting("model", "NAME", "model cards, separated by commas", required=True)
    parser.setting("attn", "sdpa,eager", "attention implementations", default="sdpa,eager")
    parser.setting("to", "FILE.md", "write the table there as well")
    parser.examples("model=gemma3_4b", "model=qwen2_5_vl_7b,llava_next_7b attn=sdpa")


def profile(parser: Parser) -> None:
    """Cost on fixed inputs."""
    parser.takes("key=value ...", overrides=True)
    parser.setting("image", "1920x1080", "width x height of the picture in pixels", type=_size)
    parser.setting("text_tokens", "64", "tokens of the question", type=count)
    parser.setting("new_tokens", "32", "tokens that are decoded, always so many", type=count)
    parser.setting("batch", "1,8", "prompts read together; a table for each", type=_counts)
    parser.setting("repeats", "5", "passes of every method, in turn", type=count)
    parser.setting("warmup", "1", "passes before them that are not counted", type=natural)
    parser.setting("samples", "1", "prompts in a repeat", type=count)
    parser.setting(
        "protocol",
        "unibench",
        "or a paper's: uniprunebench, trimtokenator, idpruner, stp",
        type=one_of("protocol", ("unibench", "uniprunebench", "trimtokenator", "idpruner", "stp")),
    )
    parser.examples(
        "method=divprune,fastv ratio=0.667,0.889 image=336x336",
        "model=qwen2_5_vl_7b model.weights=random method=divprune ratio=0.889 batch=1,8",
    )


def list_(parser: Parser) -> None:
    """What there is."""
    parser.takes("KIND [--json] [--needs [WHAT,...]]")
    _named(parser, "kind", "list", KINDS, f"one of {', '.join(KINDS)}")
    parser.flag("--json", "print the whole cards as JSON")
    parser.option(
        "--needs",
        "WHAT,...",
        "methods: venue, what each needs and where it cuts; only those that need all of"
        " llm-attention, text, ..., and none of no-training, ...",
        nargs="?",
        const="",
    )
    parser.examples("methods", "tasks --json", "methods --needs no-llm-attention,no-training")


def show(parser: Parser) -> None:
    """A card."""
    parser.takes("KIND NAME")
    _named(parser, "kind", "kind", tuple(KINDS.values()), f"one of {', '.join(KINDS.values())}")
    parser.add_argument("name", metavar="NAME", help="as list prints it; or ./mine.py:Mine")
    parser.examples("method divprune", "task pope")


def compare(parser: Parser) -> None:
    """Paired tests."""
    parser.takes("NAME NAME ... [key=value ...] [--json]")
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME",
        help="two or more methods (divprune, fastv+layer=3), or cells by key or folder",
    )
    parser.flag("--json", "print everything as JSON")
    _results(parser)
    parser.examples(
        "divprune fastv",
        "vanilla divprune random_pre budget=0.889 model=qwen2_5_vl_7b",
        "fastv fastv+layer=3 dart --json",
    )


def recommend(parser: Parser) -> None:
    """The Pareto front."""
    parser.takes("[options] [key=value ...]")
    parser.option("--max-drop", "PERCENT", "largest drop below vanilla (2)", type=real, default=2.0)
    parser.option(
        "--metric",
        "NAME",
        "cost to keep low (prefill_ms), for example tflops",
        default="prefill_ms",
    )
    _results(parser)
    parser.examples("--max-drop 2 --metric prefill_ms", "--max-drop 1 --metric tflops task=pope")


def calibrate(parser: Parser) -> None:
    """A method's own numbers."""
    parser.takes("method=NAME key=value ...", overrides=True)
    parser.setting("samples", "20", "number of samples to look at", type=count, default=20)
    parser.setting("eta", "0.003", "vtw: tolerated divergence", type=positive, default=0.003)
    parser.setting("first", "5", "vtw: first layer that is tried", type=count, default=5)
    parser.setting("to", "FILE", "write a file, for method.calibration= (d2pruner: method.prior=)")
    parser.examples(
        f"method={'|'.join(CALIBRATED)} model=llava_1_5_7b task=synthvqa ratio=0.667",
        "method=vtw samples=50 eta=0.001",
    )


def report(parser: Parser) -> None:
    """Tables."""
    parser.takes("[key=value ...] [--html]")
    parser.flag("--html", "one page of all results, with plots and pictures")
    parser.setting("paper", "NAME", "tables of a paper: uniprunebench, idpruner, ..., or all")
    parser.setting("table", "K", "one table of it")
    parser.setting("mode", "published", "or ours, or the difference", type=one_of("mode", MODES))
    parser.setting("view", "tasks", "own results: tasks, abilities, place or aim as columns")
    _format(parser)
    parser.setting("to", "FOLDER", "write files instead of printing")
    _results(parser)
    parser.examples(
        "paper=uniprunebench table=1 mode=ours",
        "out=outputs view=abilities format=tex",
        "--html out=outputs to=page",
    )


def audit(parser: Parser) -> None:
    """Suspicious numbers."""
    parser.takes("FILE.csv|FOLDER [key=value ...]")
    parser.add_argument("path", metavar="FILE", help="a table as CSV, or a folder of them")
    parser.setting(
        "view", "findings", "or columns: each against its number of questions",
        default="findings", type=one_of("view", ("findings", "columns")),
    )  # fmt: skip
    _format(parser)
    parser.examples(
        "results/published/as_printed", "results/published view=columns", "mine.csv format=csv"
    )


def plot(parser: Parser) -> None:
    """Plots."""
    parser.takes("KIND [key=value ...]")
    _named(parser, "kind", "plot", PLOTS, f"one of {', '.join(PLOTS)}")
    parser.setting(
        "cost", "prefill_ms", "pareto: cost on the horizontal axis", default="prefill_ms"
    )
    parser.setting("value", "NAME", "heat: column of the frame", default="retention_pct")
    parser.setting("spokes", "task", "radar: task or ability", default="task")
    parser.setting("models", "A,B", "size: models from small to large")
    parser.setting("to", "FILE", "svg, png or pdf (KIND.svg)")
    _results(parser)
    parser.examples(
        "ratio task=synthvqa to=ratio.svg",
        "pareto cost=tflops",
        "radar budget=0.889 spokes=ability",
        "frames task=synthvideo budget=0.75",
    )


def overlay(parser: Parser) -> None:
    """Kept tokens."""
    parser.takes("SAMPLE [key=value ...]")
    parser.add_argument("sample", metavar="SAMPLE", help="id of a sample, see samples.jsonl")
    parser.setting("to", "FILE", "png or another picture format", default="overlay.png")
    _results(parser)
    parser.examples(
        "test-50000001-existence budget=0.889 to=overlay.png",
        "test-50000001-existence method=divprune,fastv budget=0.889",
    )


def analyze(parser: Parser) -> None:
    """Studies."""
    _named(parser, "study", "study", STUDIES, f"one of {', '.join(STUDIES)}")
    parser.takes("STUDY [PARAMETER] key=value ...", overrides=True)
    parser.setting("importance", "random", "tradeoff: U(0, 1), or a method's own", default="random")
    parser.examples(
        "tradeoff ratio=0.889 task.limit=200",
        "sweep experiment=sweep_lambda task.limit=100",
        "size experiment=sweep_size",
    )


def gallery(parser: Parser) -> None:
    """Pictures of the embedded benchmark."""
    parser.takes("FILE.html [key=value ...]")
    parser.add_argument("file", metavar="FILE.html", help="the page to write")
    parser.setting("split", "test", "split of the benchmark", default="test")
    parser.setting("variant", "single", "kind of picture", default="single")
    parser.setting("seed", "0", "another set of pictures", type=natural, default=0)
    parser.setting("pictures", "12", "how many", type=count, default=12)
    parser.examples("synthvqa.html pictures=12", "pairs.html variant=pair split=dev")


def store_folder(parser: Parser) -> None:
    """``verify`` and ``repair``."""
    parser.takes("FOLDER")
    _folder(parser)
    parser.examples("outputs", "outputs/tiny_llava")


def store_index(parser: Parser) -> None:
    """``index``."""
    parser.takes("FOLDER [--json]")
    _folder(parser)
    parser.flag("--json", "print everything as JSON")
    parser.examples("outputs", "outputs/tiny_llava --json")


def store_prune(parser: Parser) -> None:
    """``prune``."""
    parser.takes("FOLDER [--failed] [--partial] [--outdated] [--method FILE.py:Class] [--yes]")
    _folder(parser)
    parser.flag("--failed", "cells whose last attempt ended in an error")
    parser.flag("--partial", "cells that are not complete")
    parser.flag("--outdated", "cells that the present code would not continue")
    _own_method(parser)
    parser.flag("--yes", "remove them; without it they are only listed")
    parser.examples("outputs --failed", "outputs --outdated --yes")


def store_rekey(parser: Parser) -> None:
    """``rekey``."""
    parser.takes("FOLDER [--method FILE.py:Class]")
    _folder(parser)
    _own_method(parser)
    parser.examples("outputs", "outputs/tiny_llava")


def store_merge(parser: Parser) -> None:
    """``merge``."""
    parser.takes("FROM INTO")
    parser.add_argument("source", metavar="FROM", help="folder of results")
    parser.add_argument("into", metavar="INTO", help="folder that they are added to")
    parser.examples("other_outputs outputs", "/mnt/laptop/outputs outputs")


def store_export(parser: Parser) -> None:
    """``export``."""
    parser.takes("FOLDER FILE.tar.gz")
    _folder(parser)
    parser.add_argument("file", metavar="FILE.tar.gz", help="archive to write")
    parser.examples("outputs grid.tar.gz", "outputs/tiny_llava llava.tar.gz")


def store_import(parser: Parser) -> None:
    """``import``."""
    parser.takes("FILE.tar.gz FOLDER [--max-size GiB]")
    parser.add_argument("file", metavar="FILE.tar.gz", help="archive that export wrote")
    parser.add_argument("folder", metavar="FOLDER", help="folder of results")
    parser.option("--max-size", "GiB", "that it may unpack to; 4 without it", type=positive)
    parser.examples("grid.tar.gz outputs", "llava.tar.gz outputs --max-size 20")


# -- shared by verbs


def _own_method(parser: Parser) -> None:
    parser.option("--method", "FILE.py:Class", "a method in a file of your own that may be opened")


def _sweep(parser: Parser) -> None:
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="comma lists make a grid, a cell for each"
    )


def _workers(parser: Parser) -> None:
    parser.flag("--retry", "try failed cells again")
    parser.option(
        "--expiry", "SECONDS", "silence after which a worker counts as dead (60)", type=_expiry
    )


def _resources(parser: Parser) -> None:
    parser.setting("cluster", "|".join(ENGINES), "where", type=one_of("cluster", ENGINES))
    parser.option("--minutes", "N", "time limit of a worker (60)", type=count)
    parser.option("--partition", "P", "partition of SLURM")
    parser.option("--account", "A", "account of SLURM")
    parser.option("--gpus", "N", "GPUs of a worker", type=natural)
    parser.option("--cpus", "N", "processors of a worker", type=count)
    parser.option("--mem", "GB", "memory of a worker", type=positive)
    parser.option("--requeues", "N", "how often a worker may be queued again (100)", type=natural)
    parser.option("--extra", "K=V,K=V", "any other options of sbatch", type=_pairs)
    parser.option("--address", "HOST", "of Ray's head node (auto)", default="auto")


def _results(parser: Parser) -> None:
    parser.setting("out", "outputs", "folder of the results", default="outputs")
    parser.filters(*FILTERS)


def _format(parser: Parser) -> None:
    parser.setting(
        "format", "md", f"or {', '.join(FORMATS[1:])}", type=one_of("format", FORMATS), default="md"
    )


def _folder(parser: Parser) -> None:
    parser.add_argument("folder", metavar="FOLDER", help="folder of results, or one cell of it")


def _named(parser: Parser, name: str, kind: str, names: Collection[str], help: str) -> None:
    parser.add_argument(name, metavar=name.upper(), help=help, type=one_of(kind, names))


# -- values


def _gpus(text: str) -> list[str]:
    names = text.split(",")
    if not all(name.isdecimal() for name in names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text}: numbers of GPUs, each once, such as --gpus 0,1")
    return names


def _pairs(text: str) -> dict[str, str]:
    if not all("=" in pair for pair in text.split(",")):
        raise argparse.ArgumentTypeError(f"{text}: key=value pairs are wanted, such as qos=high")
    return dict(pair.split("=", 1) for pair in text.split(","))


def _expiry(text: str) -> float:
    from unibench.store.claim import BEAT_SECONDS

    seconds = real(text)
    if seconds < 2 * BEAT_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text} is too small: a worker shows that it lives every {BEAT_SECONDS:g} s; at least"
            f" {2 * BEAT_SECONDS:g}"
        )
    return seconds


def _size(text: str) -> tuple[int, int]:
    size = re.fullmatch(r"(\d+)x(\d+)", text)
    if size is None or min(int(size[1]), int(size[2])) < 1:
        raise argparse.ArgumentTypeError(f"{text}: width x height in pixels, such as 1920x1080")
    return int(size[1]), int(size[2])


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(number) for number in text.split(","))
