"""Verbs, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Sequence

from unibench.errors import UsageError, lines_shown, unknown

USAGE = """\
unibench: fair comparison of visual token pruning. ratio is the share of visual tokens REMOVED.

  python -m unibench model=M method=X ratio=R task=T     one cell; the same command again continues it
  python -m unibench -m method=divprune,fastv ratio=0.667,0.889     a grid: one cell for each combination

  ratio=0.889 | retention=0.111 | keep=64    the budget (a fraction such as 7/9 is fine)
  model.path=<folder>      a checkpoint on this disk      model.weights=random   the real size without a download
  method=./mine.py:Mine    a method of your own           method.layer=3         a parameter of the method
  task.limit=500           number of samples              task.data=<folder>     your own pictures (task=folder)
  pixels=paper|native   seed=0   batch_size=1   budget.scope=sequence|item   out=outputs

verbs:
  list methods|models|tasks|suites|experiments [--json]   what there is
  show method|model|task|suite|experiment NAME   the card of one
  profile model=M method=X,Y ratio=R,S    cost on fixed inputs: image=1920x1080 text_tokens=64 new_tokens=32 batch=1,8
                                          repeats=5 warmup=1 protocol=unibench|uniprunebench|trimtokenator|idpruner|stp
  plan [-m] <overrides>                   what these cells still need [--failed] [--probe 3] [--json]
  work [-m] <overrides> --processes 2     several workers, or --gpus 0,1 [--retry] [--expiry 60]; shards=8 splits a cell
  submit [-m] <overrides> cluster=slurm|ray|local --workers 4    elsewhere [--minutes 60] [--partition P] [--gpus 1] [--mem 32]
                                          [--account A] [--cpus 8] [--extra qos=high,nice=10] [--address auto] [--retry]
  prefetch [-m] <overrides>               checkpoints and data of a grid, for a machine without a network
  doctor [--import]                       what is installed here and what is missing; with cluster=... on its nodes
  store index|verify|repair|prune|rekey|merge|export|import ...    look after results
  compare A B [C ..] [out=outputs]        paired tests of methods (divprune, fastv+layer=3) or cells
  recommend --max-drop 2 --metric prefill_ms   the methods on the front of drop and cost
  calibrate method=vtw|fitprune|mustdrop ..    a method's own numbers, from a few samples
  report [paper=P table=K mode=published|ours|difference] [format=md|tex|html|csv] [--html]   tables; a page of results
  audit FILE.csv|FOLDER                   what in a table should be looked at
  plot ratio|pareto|bars|heat|radar|ranks|size [task=T] [budget=B] to=FILE.svg    overlay SAMPLE to=FILE.png
  analyze tradeoff|angles|sweep|size <overrides>    the papers' studies of tokens and parameters
  gallery FILE.html [pictures=12]         pictures of synthvqa with questions and answers
  --help, --version

  experiment=uniprunebench_table5         the cells of a published table; any key may be overridden

Without task= the embedded task synthvqa is asked: drawn pictures, nothing is downloaded.
"""

VERBS = {
    "profile": "profiling:profile",
    "list": "listing:list_",
    "show": "listing:show",
    "plan": "planning:plan",
    "work": "working:work",
    "submit": "submitting:submit",
    "store": "storing:store",
    "compare": "comparing:compare",
    "recommend": "comparing:recommend",
    "calibrate": "calibrating:calibrate",
    "report": "reporting:report",
    "audit": "auditing:audit",
    "plot": "plotting:plot",
    "overlay": "plotting:overlay",
    "analyze": "analyzing:analyze",
    "gallery": "gallery:gallery",
    "doctor": "doctor:doctor",
    "prefetch": "prefetching:prefetch",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for the user's mistakes, 130 when interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    _quiet()
    try:
        return _dispatch(words)
    except UsageError as error:
        print(lines_shown(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "interrupted; every answered sample is kept, the same command continues",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _dispatch(words: list[str]) -> int:
    if "--help" in words or "-h" in words:
        print(USAGE, end="")
        return 0
    if "--version" in words:
        print(importlib.import_module("unibench").__version__)
        return 0
    if words and words[0] in VERBS:
        module, _, function = VERBS[words[0]].partition(":")
        return int(getattr(importlib.import_module(f"unibench.cli.{module}"), function)(words[1:]))
    if words and "=" not in words[0] and not words[0].startswith("-"):
        raise unknown("verb", words[0], VERBS, "python -m unibench --help")
    code = importlib.import_module("unibench.cli.running").run(words)
    return int(code)


class _Plain(logging.Formatter):
    """Log messages with control characters escaped: names in them come from stores."""

    def format(self, record: logging.LogRecord) -> str:
        return lines_shown(super().format(record))


def _quiet() -> None:
    """The libraries' own talk goes to run.log or nowhere; ours is a warning or worse on the
    screen.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    handler = logging.StreamHandler()
    handler.setLevel(logging.WARNING)
    handler.setFormatter(_Plain("%(message)s"))
    logger = logging.getLogger("unibench")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(handler)
