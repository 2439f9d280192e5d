"""Verbs, and the one place where errors become a line and an exit code."""

from __future__ import annotations

import errno
import importlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unibench.cli import parsers
from unibench.cli.parser import COMMAND, OVERRIDES, Options, Parser
from unibench.credentials import hidden
from unibench.errors import UsageError, lines_shown, of_file, shown, unknown


@dataclass(frozen=True)
class Verb:
    """A verb of the command line.

    Attributes:
        summary: what it does, in a line.
        arguments: adds what the verb takes to a parser.
        place: ``module:function`` of ``unibench.cli``, which takes the options.
    """

    summary: str
    arguments: Callable[[Parser], None]
    place: str = ""


EXTRAS = {
    **dict.fromkeys(("hydra", "omegaconf", "pandas", "pyarrow", "rich", "scipy"), "bench"),
    **dict.fromkeys(("tabulate", "accelerate"), "bench"),
    **dict.fromkeys(("matplotlib", "pylatexenc", "scikit_posthocs"), "report"),
    **dict.fromkeys(("submitit", "ray"), "cluster"),
}
"""Imports that a light installation lacks, and the extra that brings them."""
RUN = Verb("one cell, or with -m a grid; the same command again continues it", parsers.run)
VERBS: dict[str, Verb] = {
    "list": Verb("methods, models, tasks, suites or experiments", parsers.list_, "listing:list_"),
    "show": Verb("the card of one of them", parsers.show, "listing:show"),
    "plan": Verb("state of every cell of a command, time left", parsers.plan, "planning:plan"),
    "work": Verb("several workers on this machine", parsers.work, "working:work"),
    "submit": Verb(
        "workers on SLURM, on Ray or in the background", parsers.submit, "submitting:submit"
    ),
    "prefetch": Verb(
        "fetch checkpoints and data for a machine without a network",
        parsers.prefetch,
        "prefetching:prefetch",
    ),
    "doctor": Verb(
        "what is installed here or on a cluster; whether a run pruned",
        parsers.doctor,
        "doctor:doctor",
    ),
    "check": Verb(
        "whether a model, or a method of your own, keeps the rules that the others rely on",
        parsers.check,
        "checking:check",
    ),
    "profile": Verb("time, FLOPs and memory on fixed inputs", parsers.profile, "profiling:profile"),
    "calibrate": Verb(
        "a method's own numbers, from a few samples", parsers.calibrate, "calibrating:calibrate"
    ),
    "compare": Verb("paired tests of methods or cells", parsers.compare, "comparing:compare"),
    "lost": Verb(
        "the samples that one method answers and another does not", parsers.lost, "losing:lost"
    ),
    "recommend": Verb(
        "the Pareto-optimal methods within a limit of the drop",
        parsers.recommend,
        "recommending:recommend",
    ),
    "report": Verb(
        "tables of the papers and of your own results, or a page of them",
        parsers.report,
        "reporting:report",
    ),
    "page": Verb(
        "a page to explore your own results: tables, plots, pictures",
        parsers.page,
        "reporting:page",
    ),
    "serve-page": Verb(
        "follow a grid that is running, in a browser", parsers.serve_page, "following:serve_page"
    ),
    "reproduce": Verb(
        "a paper's table under its settings and ours, the unpruned model first",
        parsers.reproduce,
        "reproducing:reproduce",
    ),
    "import-run": Verb(
        "what somebody else's code kept and answered, beside a cell of ours",
        parsers.import_run,
        "importing:import_run",
    ),
    "audit": Verb("suspicious numbers in a table of results", parsers.audit, "auditing:audit"),
    "plot": Verb("plots of finished cells", parsers.plot, "plotting:plot"),
    "overlay": Verb(
        "which tokens each method kept of a picture", parsers.overlay, "plotting:overlay"
    ),
    "analyze": Verb(
        "the papers' studies of tokens and parameters", parsers.analyze, "analyzing:analyze"
    ),
    "gallery": Verb(
        "a page of synthvqa's pictures and questions", parsers.gallery, "gallery:gallery"
    ),
    "cite": Verb("what a result stands on, as BibTeX", parsers.cite, "citing:cite"),
    "completion": Verb(
        "what a shell offers while a command is typed", parsers.completion, "completing:completion"
    ),
    "store": Verb(
        "look after results: list, show, diff, why, verify, repair, prune, merge, export, ...",
        parsers.store_folder,
    ),
}
# those of docs/authors.md; the first page has room for one line of them
AUTHORS: dict[str, Verb] = {
    "new": Verb("a file for a method, task or family of your own", parsers.new, "authoring:new"),
    "debug": Verb(
        "what a method does with one sample: scores, kept tokens, tensors",
        parsers.debug,
        "authoring:debug",
    ),
    "certify": Verb(
        "conformance, grid, statistics and rows of a method, in one folder",
        parsers.certify,
        "certifying:certify",
    ),
    "verify": Verb(
        "a certificate, without running anything of it", parsers.verify, "certifying:verify"
    ),
    "search": Verb(
        "the best of methods made of parts, on a calibration split",
        parsers.search,
        "searching:search",
    ),
    "board": Verb("a site of certificates", parsers.board, "certifying:board"),
}
# those of docs/serving.md, likewise
SERVERS: dict[str, Verb] = {
    "serve-bench": Verb(
        "what pruning does to a server: latency and throughput under load",
        parsers.serve_bench,
        "serving:serve_bench",
    ),
    "export-method": Verb(
        "what another engine needs of a method: rules, golden vectors, answers",
        parsers.export_method,
        "serving:export_method",
    ),
}
EVERY = {**VERBS, **AUTHORS, **SERVERS}
ACTIONS: dict[str, Verb] = {
    "list": Verb(
        "cells with state, score, date, host, user and size", parsers.store_list, "stored:list_"
    ),
    "show": Verb(
        "configuration, environment and code of a cell", parsers.store_show, "stored:show"
    ),
    "diff": Verb("what tells two cells apart, and what it did", parsers.store_diff, "stored:diff"),
    "why": Verb(
        "why the cell of a command is not among those that are there",
        parsers.store_why,
        "stored:why",
    ),
    "index": Verb("cells and samples below a folder", parsers.store_index, "storing:index"),
    "verify": Verb(
        "what is damaged, and the command that repairs it", parsers.store_verify, "storing:verify"
    ),
    "repair": Verb(
        "set damaged lines aside; the next run answers them again",
        parsers.store_folder,
        "storing:repair",
    ),
    "prune": Verb("remove cells", parsers.store_prune, "storing:prune"),
    "rekey": Verb(
        "lift cells of an earlier code to the present one, after asking samples again",
        parsers.store_rekey,
        "storing:rekey",
    ),
    "merge": Verb("add the cells of a folder to another one", parsers.store_merge, "storing:merge"),
    "export": Verb("write cells into an archive", parsers.store_export, "storing:export"),
    "import": Verb(
        "add the cells of an archive to a folder", parsers.store_import, "storing:import_"
    ),
}


class _Plain(logging.Formatter):
    """Log messages with control characters escaped, since names in them come from stores, and
    without secrets.
    """

    def format(self, record: logging.LogRecord) -> str:
        return hidden(lines_shown(super().format(record)))


_SCREEN = logging.StreamHandler()
_SCREEN.setFormatter(_Plain())
USAGE = f"""\
unibench: fair comparison of visual token pruning. ratio is the share of visual tokens REMOVED.
  {COMMAND} model=M method=X ratio=R task=T     one cell; the same command continues it
  {COMMAND} -m method=divprune,fastv ratio=0.667,0.889   a grid: each combination
  ratio=0.889 | retention=0.111 | keep=64    the budget (a fraction such as 7/9 is fine)
  model.path=<folder>  a checkpoint on this disk    model.weights=random  its real size, no download
  method=./mine.py:Mine  a method of your own       method.layer=3  a parameter of the method
  task.limit=500  number of samples                 task=folder task.data=<folder>  your pictures
  pixels=paper|native   seed=0   batch_size=1   budget.scope=sequence|item   out=outputs
  positions=compact  kept tokens close up    wrap=[cen_prune]  around a method    video.frames=16

verbs (python -m unibench VERB --help):
{{verbs}}
  {{authors}}  for authors of methods: docs/authors.md
  {{servers}}  for serving engines: docs/serving.md
  experiment=uniprunebench_table5  a published table  --cfg job, --info, --help, --version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code: 0, 2 for the user's mistakes, 130 when interrupted, 1
    for cells that failed and for faults of unibench.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    _open_streams()
    _quiet()
    if (said := other_unibench(sys.path)) is not None:
        print(said, file=sys.stderr)
    try:
        place, options = _read(words)
        code = 0
        if options is not None:
            do = _function(place, options)
            with _width(options):
                code = int(do())
        sys.stdout.flush()
        return code
    except UsageError as error:
        print(lines_shown(hidden(str(error))), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; all answers are kept, the same command continues", file=sys.stderr)
        return 130
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.ENOSPC) and error.filename is None:
            from unibench.cli.terminal import give_up_output

            give_up_output(error)
            return 0 if error.errno == errno.EPIPE else 1
        if (mistake := of_file(error)) is None:
            return _fault(error)
        print(mistake, file=sys.stderr)
        return 2
    except RuntimeError as error:
        named = [word for word in words if "~" in word]
        if "home directory" not in str(error) or not named:
            return _fault(error)
        # what pathlib says of ~name
        line = f"{' '.join(named)}: behind ~ stands no user of this machine; ~/ is your own folder"
        print(lines_shown(line), file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if (extra := EXTRAS.get((error.name or "").partition(".")[0])) is None:
            return _fault(error)
        print(
            f"this needs {error.name}, which is not installed: pip install"
            f' "unibench-pruning[{extra}]"',
            file=sys.stderr,
        )
        return 2
    except Exception as error:
        return _fault(error)


def _function(place: str, options: Options) -> Callable[[], int]:
    """What a command does, which gives its exit code."""
    if not place:
        from unibench.cli.grid import Grid

        return Grid(options).run
    module, _, name = place.partition(":")
    return partial(getattr(importlib.import_module(f"unibench.cli.{module}"), name), options)


def _width(options: Options) -> AbstractContextManager[None]:
    """Within, tables are as wide as the terminal, or as wide as they are (``--wide``)."""
    if not getattr(options, "wide", False):
        return nullcontext()
    from unibench.cli.terminal import widened

    return widened()


def other_unibench(folders: Sequence[str]) -> str | None:
    """A line where the package that owns the name ``unibench`` on the index is installed too."""
    for folder in folders:
        # read as files: importlib.metadata would take longer than a help page
        for file in Path(folder or ".").glob("unibench-[0-9]*.dist-info/METADATA"):
            with file.open(encoding="utf-8", errors="replace") as lines:
                summary = next((line for line in lines if line.startswith("Summary:")), "")
            if "visual token pruning" not in summary:
                return (
                    f"{shown(str(file.parent))} is another project of the name unibench, whose"
                    " files this one overwrites or is overwritten by; pip uninstall unibench, then"
                    " pip install --force-reinstall --no-deps unibench-pruning"
                )
    return None


def _fault(error: Exception) -> int:
    """Say that unibench has a fault, and where its traceback lies."""
    lines = "".join(traceback.format_exception(error))
    try:
        with tempfile.NamedTemporaryFile(
            "w", prefix="unibench-fault-", suffix=".txt", delete=False, encoding="utf-8"
        ) as file:
            file.write(lines)
        place = f"the traceback lies in {file.name}"
    except OSError:
        place = f"its traceback:\n{lines}"
    said = " ".join(str(error).split()) or "no reason given"
    line = (
        f"unibench has a fault here, which is none of yours: {type(error).__name__}: {said}."
        f" Nothing that is stored is lost; {place}"
    )
    print(lines_shown(line), file=sys.stderr)
    return 1


def _read(words: list[str]) -> tuple[str, Options | None]:
    """What a command is to do, and its options; None for a page that has been printed.

    Raises:
        UsageError: there is no such verb, option or setting.
    """
    for word in words:
        if any("\ud800" <= sign <= "\udfff" for sign in word):  # a byte of another encoding
            raise UsageError(f"{shown(word)} is no UTF-8; rename the file, or write it as UTF-8")
    asks = bool({"-h", "--help"} & set(words))
    if words and words[0] == "help":  # help plot, as people type it
        words, asks = words[1:], True
        if words and words[0] not in EVERY:
            raise unknown("verb", words[0], EVERY, f"{COMMAND} --help")
    page = ""
    if words == ["--version"]:
        from unibench import __version__

        page = f"{__version__}\n"
    elif asks and (not words or words[0] not in EVERY):
        further = {"authors": ", ".join(AUTHORS), "servers": ", ".join(SERVERS)}
        page = USAGE.format(verbs=_listed(VERBS), **further)
    elif asks and words[0] == "store" and not set(words) & ACTIONS.keys():
        page = f"{COMMAND} store ACTION ...\n\n{_listed(ACTIONS)}\n"
    if page:
        print(page, end="")
        return "", None
    name, verb, rest = _verb_of(words)
    parser = Parser(name, verb.summary)
    verb.arguments(parser)
    if asks:
        print(parser.format_help(), end="")
        return "", None
    options = parser.read(rest)
    if verb is RUN and (options.cfg or options.info):
        return "composing:compose", options
    if verb is RUN and any(word.startswith("hydra") for word in options.words):
        return "launching:launch", options
    return verb.place, options


def _verb_of(words: list[str]) -> tuple[str, Verb, list[str]]:
    """The name of a verb, the verb, and the other words.

    Raises:
        UsageError: there is no such verb, or no such action of the store.
    """
    first, *rest = words or [""]
    if first == "store":
        if not rest:
            raise UsageError(f"store what? {', '.join(ACTIONS)}; see {COMMAND} store --help")
        if rest[0] not in ACTIONS:
            raise unknown("store action", rest[0], ACTIONS, f"{COMMAND} store --help")
        return f"store {rest[0]}", ACTIONS[rest[0]], rest[1:]
    alone = first == "show" and len(rest) == 1 and not rest[0].startswith("-")
    if alone and rest[0] not in parsers.KINDS.values():
        raise UsageError(
            f"show what {rest[0]}? {', '.join(parsers.KINDS.values())}; for example {COMMAND} show"
            f" method {rest[0]}"
        )
    if first in EVERY:
        return first, EVERY[first], rest
    if rest and (first in OVERRIDES or rest[0] == "="):  # method divprune, ratio = 0.5
        value = next((word for word in rest if word != "="), "...")
        raise UsageError(f"overrides are written without spaces: {first}={value}")
    if first and "=" not in first and not first.startswith(("-", "~")):
        page = f"{COMMAND} --help; overrides are written key=value"
        raise unknown("verb", first, EVERY, page)
    return "", RUN, words


def _listed(verbs: Mapping[str, Verb]) -> str:
    return "\n".join(f"  {name:10s} {verb.summary}" for name, verb in verbs.items())


def _open_streams() -> None:
    """Give a process without standard streams (``>&-``, cron) some that lead nowhere.

    Otherwise the next file that is opened gets their number, and what libraries print ends in it.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115


def _quiet() -> None:
    """Libraries write into run.log or nowhere; of ours, warnings and worse go to the screen."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logger = logging.getLogger("unibench")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(_SCREEN)
    _SCREEN.setLevel(logging.WARNING)
    _SCREEN.stream = sys.stderr  # which may be another one than at the last call
