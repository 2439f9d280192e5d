"""Run in a process of its own: every reading verb over one store, and what each of them did.

    python -m tests.security._walk STORE WORK REPORT.json

REPORT.json gets the exit code of each verb or the error that left it, the modules that were
imported, the processes that were started and the files that were opened to be written.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

STARTS = (
    "subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
    "os.startfile", "webbrowser.open", "socket.connect", "pty.spawn",
)  # fmt: skip
started: list[str] = []
written: set[str] = set()


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: notes processes, connections and files that are opened to be written."""
    if event in STARTS:
        started.append(f"{event} {arguments[:2]!r}")
    elif event == "open" and isinstance(arguments[0], (str, bytes, os.PathLike)):
        flags = arguments[2] if isinstance(arguments[2], int) else 0
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_TRUNC):
            written.add(os.path.abspath(os.fsdecode(arguments[0])))


def verbs(store: Path, work: Path, sample: str) -> dict[str, list[str]]:
    """Every verb that reads a store, and where it writes."""
    out = f"out={store}"
    mine = ["model=tiny_qwen2_5_vl", "method=divprune", "ratio=0.75"]
    return {
        "index": ["store", "index", str(store)],
        "index as JSON": ["store", "index", str(store), "--json"],
        "verify": ["store", "verify", str(store)],
        "prune": ["store", "prune", str(store), "--failed", "--partial", "--outdated"],
        "plan": ["plan", *mine, out],
        "plan as JSON": ["plan", *mine, out, "--json"],
        "report": ["report", out],
        **{f"report {form}": ["report", out, f"format={form}"] for form in ("tex", "html", "csv")},
        "report of a paper": ["report", "paper=uniprunebench", "table=1", "mode=ours", out],
        "page": ["report", "--html", out, f"to={work / 'page'}"],
        "overlay": ["overlay", sample, out, f"to={work / 'overlay.png'}"],
        "compare": ["compare", "divprune", "vanilla", out],
        "recommend": ["recommend", "--max-drop", "200", out],
        "plot": ["plot", "bars", out, f"to={work / 'bars.svg'}"],
        "plot ratio": ["plot", "ratio", out, f"to={work / 'ratio.svg'}"],
        "audit": ["audit", str(store)],
        "show": ["show", "method", "divprune"],
        "export": ["store", "export", str(store), str(work / "store.tar.gz")],
        "import": ["store", "import", str(work / "store.tar.gz"), str(work / "imported")],
        "merge": ["store", "merge", str(store), str(work / "merged")],
        "repair": ["store", "repair", str(work / "merged")],
        "prune with --yes": ["store", "prune", str(work / "merged"), "--outdated", "--yes"],
    }


def main(store: Path, work: Path, report: Path) -> None:
    """Run the verbs one after the other."""
    from unibench.cli import main as command

    (file, *_) = sorted(store.rglob("samples.jsonl"))
    sample = json.loads(file.read_text().splitlines()[0])["id"]
    sys.addaudithook(watch)
    found = {}
    for name, words in verbs(store, work, sample).items():
        said, started[:] = io.StringIO(), []
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                code: int | str = command(words)
            except BaseException as error:
                code = f"{type(error).__name__}: {error}"
        text = said.getvalue()
        found[name] = {"code": code, "started": list(started), "said": text}
    result = {"verbs": found, "modules": sorted(sys.modules), "written": sorted(written)}
    report.write_text(json.dumps(result))


if __name__ == "__main__":
    main(*(Path(word) for word in sys.argv[1:]))
