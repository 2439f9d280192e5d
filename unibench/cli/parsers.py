"""What each verb takes: its options, its settings, and examples for its help page.

Nothing here loads more than the standard library: a help page and a mistyped option are answered at
once.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
from collections.abc import Collection

from unibench.cli.parser import Parser, count, natural, one_of, positive, real

KINDS = {
    "methods": "method",
    "models": "model",
    "tasks": "task",
    "suites": "suite",
    "experiments": "experiment",
}
SHELLS = ("bash", "zsh", "fish", "words")
ENGINES = ("slurm", "ray", "local")
FORMATS = ("md", "tex", "html", "csv")
DETAILS = ("interval", "drop")
SETTINGS = ("paper", "unibench", "both")
MODES = ("published", "ours", "difference", "both")
PLOTS = ("ratio", "pareto", "bars", "heat", "radar", "ranks", "size", "frames")
STUDIES = ("tradeoff", "angles", "sweep", "size", "horizon")
PARTS = ("method", "task", "family")
FORMS_OF_METHODS = ("score", "select", "merge")
READS = ("vit-attention", "vit-features", "llm-attention", "text")
CALIBRATED = ("vtw", "fitprune", "mustdrop", "d2pruner")
FILTERS = (
    *("model", "family", "task", "method", "variant", "params", "source", "budget", "ratio"),
    *("budget_mode", "budget_scope", "positions", "weights", "dtype", "attn", "batch", "pixels"),
    "frames",
    *("text_after_video", "max_new_tokens", "harness", "harness_version", "wrapper", "judge", "n"),
    *("data", "code", "setting", "device", "key"),
)  # columns of results; a test holds them to those that the frame knows
LISTED = ("model", "task", "method", "budget", "seed", "state", "host", "user", "key")


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
    _wide(parser)
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
    _json(parser)
    parser.option("--probe", "N", "answer N samples where no time is known", type=count)
    parser.option("--workers", "N", "how long it takes so many", type=count)
    _wide(parser)
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
    parser.option("--gpus", "0,1", "one worker for each of these GPUs; 0-7, all", type=_gpus)
    _workers(parser)
    _wide(parser)
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


def cite(parser: Parser) -> None:
    """The papers of a result."""
    parser.takes("[method=A,B] [model=M] [task=T] [harness=H]")
    parser.setting("method", "NAME[,NAME ...]", "methods")
    parser.setting("model", "NAME[,NAME ...]", "models")
    parser.setting("task", "NAME[,NAME ...]", "benchmarks, or suites of them")
    parser.setting("harness", "vlmevalkit,lmms_eval", "harnesses that asked them")
    parser.examples(
        "method=divprune,fastv model=qwen2_5_vl_7b task=pope harness=lmms_eval",
        "method=stp task=suite_stp",
    )


def doctor(parser: Parser) -> None:
    """What is installed, or whether a run pruned."""
    parser.takes("[options] [run=CELL | [-m] key=value ... cluster=WHERE]", overrides=True)
    parser.setting("run", "CELL", "folder or key of a finished cell (out=): did it prune?")
    parser.setting("sample", "ID", "with run=: the sample that is asked again (the first)")
    parser.setting("to", "FILE", "with run=: a picture of it: svg, png or pdf")
    parser.flag("--files", "with run=: look at its files only, load no model")
    parser.flag("--json", "with run=: print everything as JSON")
    _sweep(parser)
    parser.flag("--import", "import both harnesses as well (half a minute)", dest="importing")
    parser.option(
        "--nodes", "N", "with cluster=: number of nodes to ask (1)", type=count, default=1
    )
    _resources(parser)
    parser.examples(
        "--import",
        "run=0f3a out=outputs to=layers.svg",
        "-m method=divprune,fastv cluster=slurm --nodes 2 --partition gpu",
    )


def check(parser: Parser) -> None:
    """The rules that every method relies on, and those that every method keeps."""
    parser.takes(
        "model=NAME[,NAME ...] [attn=sdpa,eager] | method=NAME|FILE.py:Class [method.PARAM=VALUE"
        " ...]",
        overrides=True,
    )
    parser.setting("model", "NAME", "model cards, separated by commas: what a model must keep")
    parser.setting("attn", "sdpa,eager", "with model=: attention kernels", default="sdpa,eager")
    parser.setting("method", "FILE.py:Class", "a method: what it must keep on every family")
    parser.setting("families", "A,B", "with method=: on these alone")
    parser.setting(
        "rules", "A,B", "with method=: these alone, or quick: those that find most mistakes"
    )
    parser.setting("to", "FILE.md", "write the table there as well")
    parser.flag("--json", "with method=: print everything as JSON")
    _wide(parser)
    parser.examples(
        "model=qwen2_5_vl_7b,llava_next_7b attn=sdpa",
        "method=./mine.py:Mine",
        "method=fastv method.layer=3 families=llava,qwen2_5_vl rules=quick",
    )


def new(parser: Parser) -> None:
    """A skeleton."""
    parser.takes("KIND NAME [needs=A,B] [form=score] [like=llava] [into=FOLDER]")
    _named(parser, "kind", "kind", PARTS, f"one of {', '.join(PARTS)}")
    parser.add_argument("name", metavar="NAME", help="of the file, in snake case")
    parser.setting("needs", "A,B", f"method: what it reads: {', '.join(READS)}")
    parser.setting(
        "form", "score", f"method: or {', '.join(FORMS_OF_METHODS[1:])}",
        type=one_of("form", FORMS_OF_METHODS), default="score",
    )  # fmt: skip
    parser.setting("like", "llava", "family: the one that it resembles", default="llava")
    parser.setting("into", "FOLDER", "where the files go (.)", default=".")
    parser.examples("method mine needs=vit-attention", "task colours", "family mymodel like=llava")


def debug(parser: Parser) -> None:
    """A method and one sample."""
    parser.takes("method=NAME|FILE.py:Class [sample=ID] [key=value ...]", overrides=True)
    parser.setting("sample", "ID", "the sample that is asked (the first)")
    parser.setting(
        "to", "FILE.html", "page with scores, kept tokens, tensors", default="debug.html"
    )
    parser.examples(
        "method=./mine.py:Mine ratio=0.889",
        "method=divprune ratio=0.75 sample=test-single-50000001-existence",
    )


def certify(parser: Parser) -> None:
    """A certificate."""
    parser.takes(
        "method=FILE.py:Class [method.PARAM=VALUE ...] [suite=tiny] to=FOLDER", overrides=True
    )
    parser.setting("method", "FILE.py:Class", "the method")
    parser.setting("suite", "tiny", "what is asked of everybody: tiny, tiny_quick", default="tiny")
    parser.setting("to", "FOLDER", "the certificate; the same command again continues it")
    parser.examples(
        "method=./mine.py:Mine suite=tiny to=certificates/mine",
        "method=./mine.py:Mine suite=tiny_quick to=/tmp/mine",
    )


def verify(parser: Parser) -> None:
    """A certificate, without running anything of it."""
    parser.takes("FOLDER [--rerun method=FILE.py:Class] [--share 0.05] [--json]")
    parser.add_argument("folder", metavar="FOLDER", help="a certificate")
    parser.flag("--rerun", "ask a random part again, with the file that method= names")
    parser.setting("method", "FILE.py:Class", "with --rerun: the file, whose digest must be equal")
    parser.option(
        "--share", "SHARE", "with --rerun: of the samples (0.05)", type=_share, default=0.05
    )
    _json(parser)
    parser.examples("mine_certificate", "mine_certificate --rerun method=./mine.py:Mine")


def search(parser: Parser) -> None:
    """Methods made of parts."""
    parser.takes("key=value ... [trials=30] [calibration=0.5] [to=FILE.json]", overrides=True)
    parser.setting("trials", "30", "expressions that are tried", type=count, default=30)
    parser.setting(
        "calibration", "0.5", "share of the pictures to choose by; the rest is asked about once",
        type=_share, default=0.5,
    )  # fmt: skip
    parser.option("--seed-of-search", "0", "of what is proposed", type=natural, default=0)
    parser.setting("to", "FILE.json", "write trials, scores and the split")
    parser.examples(
        "model=tiny_qwen2_5_vl task=synthvqa task.limit=200 ratio=0.889 trials=20",
        "model=tiny_llava task=synthvqa ratio=0.778 to=search.json",
    )


def board(parser: Parser) -> None:
    """A site of certificates."""
    parser.takes("FOLDER to=SITE")
    parser.add_argument("folder", metavar="FOLDER", help="holds certificates, each in a folder")
    parser.setting("to", "SITE", "folder of the site", default="board")
    parser.examples("certificates to=site", "certificates")


def profile(parser: Parser) -> None:
    """Cost on fixed inputs."""
    parser.takes("key=value ...", overrides=True)
    parser.setting("image", "1920x1080", "width x height, or the file of a picture", type=_size)
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
    _wide(parser)
    parser.examples(
        "method=divprune,fastv ratio=0.667,0.889 image=336x336",
        "model=qwen2_5_vl_7b model.weights=random method=divprune ratio=0.889 batch=1,8",
    )


def list_(parser: Parser) -> None:
    """What there is."""
    parser.takes("KIND [--json] [--needs [WHAT,...]]")
    _named(parser, "kind", "list", KINDS, f"one of {', '.join(KINDS)}")
    parser.flag("--json", "print the whole cards as JSON")
    parser.option("--match", "NAME", "only names of this form, such as 'div*'")
    parser.option(
        "--needs",
        "WHAT,...",
        "methods: venue, what each needs and where it cuts; only those that need all of"
        " llm-attention, text, ..., and none of no-training, ...",
        nargs="?",
        const="",
    )
    _wide(parser)
    parser.examples(
        "methods --match 'div*'", "tasks --json", "methods --needs no-llm-attention,no-training"
    )


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
    _json(parser)
    parser.setting("by", "ability", "a test for each ability", type=one_of("split", ("ability",)))
    parser.setting("ability", "A,B", "a test for each of these")
    _results(parser)
    _wide(parser)
    parser.examples(
        "vanilla divprune random_pre budget=0.889 model=qwen2_5_vl_7b",
        "fastv fastv+layer=3 dart --json",
        "divprune fastv by=ability",
    )


def lost(parser: Parser) -> None:
    """Samples won and lost."""
    parser.takes("A B [key=value ...] [--json]")
    for name, said in (("first", "a method, or a cell by key or folder"), ("second", "another")):
        parser.add_argument(name, metavar="AB"[name == "second"], help=said)
    _json(parser)
    parser.setting("ability", "A,B", "samples of these abilities")
    _results(parser)
    _wide(parser)
    parser.examples("vanilla divprune budget=0.889", "divprune fastv task=pope --json")


def recommend(parser: Parser) -> None:
    """The Pareto front."""
    parser.takes("[options] [key=value ...]")
    parser.option(
        "--max",
        "COST=NUMBER",
        "largest cost by a profile: prefill_ms=120, peak_mib=900, ...; may be repeated",
        type=_limit,
        action="append",
    )
    parser.option("--max-drop", "PERCENT", "largest drop below vanilla (2)", type=real, default=2.0)
    parser.option(
        "--metric",
        "NAME",
        "cost to keep low (prefill_ms), for example tflops",
        default="prefill_ms",
    )
    _results(parser)
    _wide(parser)
    parser.meant = dict.fromkeys(("latency", "max-latency"), "--max prefill_ms=120")
    parser.meant |= dict.fromkeys(("memory", "max-memory"), "--max peak_mib=900")
    parser.examples("--max-drop 2 --metric prefill_ms", "--max prefill_ms=120 --max peak_mib=900")


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
    parser.setting(
        "mode",
        "published",
        "or ours, the difference, or both",
        type=one_of("mode", MODES),
    )
    parser.setting(
        "view", "tasks", "or abilities, groups, diagnostics, more_frames, order, place, aim"
    )
    parser.setting("sort", "average", "own results: a column, best first; -average: worst first")
    parser.setting(
        "show", "interval,drop", "own results: beside each score, where it is known", type=_details
    )
    parser.setting("names", "FILE.yaml", "own results: names to be written; paper: the papers'")
    parser.setting("format", "md", f"or {', '.join(FORMATS[1:])}", type=one_of("format", FORMATS))
    parser.setting("to", "FOLDER", "write files instead of printing")
    _wide(parser)
    _results(parser)
    parser.examples(
        "paper=uniprunebench table=1 mode=ours",
        "out=outputs view=abilities sort=average show=interval format=tex",
        "--html out=outputs to=page",
    )


def page(parser: Parser) -> None:
    """The results explorer."""
    parser.takes("[key=value ...]")
    parser.setting("to", "report", "folder to write; index.html in it opens without a server")
    _results(parser)
    parser.examples("out=outputs to=page", "out=outputs model=qwen2_5_vl_7b task=pope,mme to=page")


def serve_page(parser: Parser) -> None:
    """A grid, followed live."""
    parser.takes("[-m] key=value ... [--port N]", overrides=True)
    _sweep(parser)
    parser.option("--port", "N", "of this machine alone (8631; 0: any free one)", type=natural)
    parser.examples(
        "out=outputs",
        "-m method=divprune,fastv ratio=0.667,0.889 --port 8000",
        "experiment=idpruner_table1",
    )


def reproduce(parser: Parser) -> None:
    """A paper's table, run."""
    parser.takes("paper=P table=K [key=value ...] [--factors] [--json]", overrides=True)
    parser.setting("paper", "NAME", "uniprunebench, idpruner, trimtokenator or stp")
    parser.setting("table", "K", "one table of it")
    parser.setting(
        "settings", "both", "or paper, or unibench: how what the table compares is run",
        type=one_of("settings", SETTINGS), default="both",
    )  # fmt: skip
    parser.flag("--factors", "run one setting of the paper at a time, all others unibench's")
    _json(parser)
    parser.examples(
        "paper=idpruner table=1",
        "paper=idpruner table=2 model=tiny_llava task=synthvqa task.limit=20",
        "paper=uniprunebench table=3 task=mme method=dart --factors",
    )


def import_run(parser: Parser) -> None:
    """Somebody else's run."""
    parser.takes("FILE.jsonl cell=CELL [out=outputs] [--json]")
    parser.add_argument(
        "file", metavar="FILE.jsonl", help="a line a sample: id, visual_tokens, kept, answer"
    )
    parser.setting("cell", "CELL", "folder or key of our cell of the same method and budget")
    parser.setting("out", "outputs", "folder to look for the key in", default="outputs")
    parser.flag("--json", "print everything as JSON, sample by sample")
    parser.examples("theirs.jsonl cell=0f3a out=outputs", "theirs.jsonl cell=0f3a --json")


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
    parser.setting(
        "inputs", "1", "pareto: costs of profiles, by number of their inputs", type=count
    )
    parser.setting("value", "NAME", "heat: column of the frame", default="retention_pct")
    parser.setting("spokes", "task", "radar: task or ability", default="task")
    parser.setting("models", "A,B", "size: models from small to large")
    parser.setting("to", "FILE", "svg, png or pdf (KIND.svg)")
    _results(parser)
    parser.examples(
        "ratio task=synthvqa to=ratio.svg",
        "pareto cost=tflops",
        "frames task=synthvideo budget=0.75",
    )


def overlay(parser: Parser) -> None:
    """Kept tokens."""
    parser.takes("SAMPLE [key=value ...]")
    parser.add_argument(
        "sample", metavar="SAMPLE", help="id of a sample, in samples.jsonl of each cell's folder"
    )
    parser.setting("to", "overlay.png", "or another picture format", default="overlay.png")
    shows = one_of("show", ("kept", "scores"))
    parser.setting(
        "show", "kept", "or scores, of runs with scores=true", default="kept", type=shows
    )
    _results(parser)
    parser.examples(
        "test-single-50000001-existence budget=0.889 to=overlay.png",
        "test-single-50000001-existence method=divprune,fastv budget=0.889",
    )


def analyze(parser: Parser) -> None:
    """Studies."""
    _named(parser, "study", "study", STUDIES, f"one of {', '.join(STUDIES)}")
    parser.takes("STUDY [PARAMETER] key=value ...", overrides=True)
    parser.setting("importance", "random", "tradeoff: U(0, 1), or a method's own", default="random")
    parser.examples(
        "tradeoff ratio=0.889 task.limit=200",
        "sweep experiment=sweep_lambda task.limit=100",
        "horizon model=tiny_qwen2_5_vl method=fastv ratio=0.889 seed=0,1,2",
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


def serve_bench(parser: Parser) -> None:
    """Load on a serving engine."""
    parser.takes("model=MODEL [method=A,B] [key=value ...]")
    parser.setting("model", "NAME", "of the list, or the folder of a checkpoint")
    parser.setting("url", "URL", "of a server that is running, in place of model and method")
    parser.setting("method", "A,B", "methods beside vanilla, a server for each ratio of each")
    parser.setting("ratio", "0.889", "shares removed, with commas", default="0.889")
    parser.setting("frames", "8", "send videos of so many frames in place of pictures", type=count)
    parser.setting("builtin", "evs,vidcom2", "vLLM's own pruning of videos beside them")
    parser.setting("concurrency", "1,4", "closed loops: so many under way at once", default="1,4")
    parser.setting("rate", "2,4", "open loops: so many arrivals a second")
    parser.setting("requests", "16", "of each load in each round", type=count, default=16)
    parser.setting("rounds", "3", "repeats", type=count, default=3)
    parser.setting("side", "672", "longer side of a picture in pixels", type=count)
    parser.setting("max_tokens", "16", "of an answer", type=count, default=16)
    parser.setting("ttft_ms", "2000", "goodput: first token", type=positive, default=2000.0)
    parser.setting("total_ms", "5000", "goodput: whole answer", type=positive, default=5000.0)
    parser.setting("seed", "0", "of pictures and arrivals", type=natural, default=0)
    parser.setting("python", "FILE", "interpreter of the serving environment")
    parser.setting("server", "TEXT", "further arguments of the server, in one word")
    parser.setting("wait", "900", "seconds that a server may take to start", type=positive,
                   default=900.0)  # fmt: skip
    parser.setting("note", "TEXT", "for the page: the machine, what else it does", default="")
    parser.setting("out", "FOLDER", "page, plot and numbers", default="outputs/serving/load")
    parser.flag("--resize", "beside the methods: vanilla with pictures of as many tokens")
    parser.examples(
        "model=qwen2_5_vl_7b method=divprune ratio=0.667,0.889 concurrency=1,8,32 --resize",
        "model=qwen2_5_vl_7b method=divprune,evs builtin=evs frames=16 ratio=0.75",
        "url=http://127.0.0.1:8000/v1 rate=1,2,4",
    )


def export_method(parser: Parser) -> None:
    """What another engine needs of a method."""
    parser.takes("method=METHOD model=MODEL [key=value ...]", overrides=True)
    parser.setting("method", "NAME", "of the list")
    parser.setting("model", "NAME", "that the golden vectors are of", default="tiny_qwen2_5_vl")
    parser.setting("ratio", "0.889", "share removed", default="0.889")
    parser.setting("out", "FOLDER", "to write into", default="outputs/export")
    parser.examples(
        "method=cdpruner model=tiny_qwen2_5_vl ratio=0.667 out=cdpruner",
        "method=divprune model=tiny_llava ratio=0.889",
    )


def completion(parser: Parser) -> None:
    """Shell completion."""
    _named(
        parser,
        "shell",
        "shell",
        SHELLS,
        "bash, zsh or fish; what it prints belongs into ~/.bashrc, ...",
    )
    parser.takes("SHELL")
    parser.setting("line", "TEXT", "with words: what has been typed so far")
    parser.examples("bash", "fish")


def store_verify(parser: Parser) -> None:
    """``verify``."""
    parser.takes("FOLDER [--score FILE.py:function]")
    _folder(parser)
    parser.option("--score", "FILE.py:function", "a scorer of your own that may be run again")
    parser.examples("outputs", "outputs/tiny_llava --score ./mine.py:close")


def store_folder(parser: Parser) -> None:
    """``repair``."""
    parser.takes("FOLDER")
    _folder(parser)
    parser.examples("outputs", "outputs/tiny_llava")


def store_list(parser: Parser) -> None:
    """``list``."""
    parser.takes("FOLDER [key=value ...] [--json]")
    _folder(parser)
    parser.setting("sort", "score", "by a column; -score: the largest first")
    _json(parser)
    parser.filters(*LISTED)
    _wide(parser)
    parser.examples("outputs sort=-date", "outputs state=failed,damaged method=divprune --json")


def store_show(parser: Parser) -> None:
    """``show``."""
    parser.takes("FOLDER KEY [--json]")
    _folder(parser)
    parser.add_argument("key", metavar="KEY", help="of a cell, its first signs, or its folder")
    _json(parser)
    parser.examples("outputs 40f2b2", "outputs 40f2b2 --json")


def store_diff(parser: Parser) -> None:
    """``diff``."""
    parser.takes("FOLDER A B [--json]")
    _folder(parser)
    parser.add_argument("first", metavar="A", help="key of a cell, its first signs, or its folder")
    parser.add_argument("second", metavar="B", help="of another")
    _json(parser)
    parser.examples("outputs 40f2b2 c9084f", "outputs 40f2b2 c9084f --json")


def store_why(parser: Parser) -> None:
    """``why``."""
    parser.takes("[-m] key=value ...", overrides=True)
    _sweep(parser)
    parser.examples("method=divprune ratio=0.889 task=pope", "-m method=divprune,fastv out=outputs")


def store_index(parser: Parser) -> None:
    """``index``."""
    parser.takes("FOLDER [--json]")
    _folder(parser)
    _json(parser)
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
    parser.takes("FOLDER FILE.tar.gz [key=value ...]")
    _folder(parser)
    parser.add_argument("file", metavar="FILE.tar.gz", help="archive to write")
    parser.filters(*LISTED)
    parser.examples("outputs grid.tar.gz", "outputs done.tar.gz state=done method=divprune,fastv")


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
    parser.setting("shared", "FOLDER", "results of many people beside them, only read")
    parser.filters(*FILTERS)


def _wide(parser: Parser) -> None:
    parser.flag("--wide", "tables as wide as they are, though the terminal is narrower")


def _json(parser: Parser) -> None:
    parser.flag("--json", "print everything as JSON")


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
    if text == "all":
        return _all_gpus()
    names: list[str] = []
    for part in text.split(","):
        ends = re.fullmatch(r"(\d+)-(\d+)", part)
        names += [str(n) for n in range(int(ends[1]), int(ends[2]) + 1)] if ends else [part]
    if not all(name.isdecimal() for name in names) or len(set(names)) < len(names) or not names:
        raise argparse.ArgumentTypeError(
            f"{text}: numbers of GPUs, each once, such as --gpus 0,1 or 0-7, or all"
        )
    return names


def _all_gpus() -> list[str]:
    """The GPUs that this process may use; asked of the driver, since torch takes seconds to load.

    Raises:
        argparse.ArgumentTypeError: there is none.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        found = visible.split(",")
    else:
        query = ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
        except (OSError, subprocess.SubprocessError):
            raise argparse.ArgumentTypeError("all: nvidia-smi names no GPU here") from None
        found = answer.stdout.split()
    names = [name.strip() for name in found if name.strip().isdecimal()]
    if not names:
        raise argparse.ArgumentTypeError("all: there is no GPU that this process may use")
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


def _details(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        one_of("detail", DETAILS)(word)
    return words


def _share(text: str) -> float:
    share = positive(text)
    if share > 1:
        raise argparse.ArgumentTypeError(f"{text} is too large; at most 1")
    return share


def _limit(text: str) -> tuple[str, float]:
    name, equals, number = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"{text}: a cost and its limit, such as prefill_ms=120")
    return name, positive(number)


def _size(text: str) -> tuple[int, int] | str:
    if os.path.isfile(text):
        return text
    size = re.fullmatch(r"(\d+)x(\d+)", text)
    if size is None or min(int(size[1]), int(size[2])) < 1:
        raise argparse.ArgumentTypeError(f"{text}: width x height in pixels, such as 1920x1080")
    return int(size[1]), int(size[2])


def _counts(text: str) -> tuple[int, ...]:
    return tuple(count(number) for number in text.split(","))
