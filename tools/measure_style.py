"""How the code reads, in figures: ``python -m tools.measure_style [--against COMMIT] [--harness]``.

The table of the house style, of the working tree and of an earlier commit beside it: lengths,
comments, loose types, and the path of calls from a command to ``generate``, which is measured by
running one. With ``--harness`` also the path through a harness and its child process.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("unibench", "methods", "models", "tasks", "configs")
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
CLOSED = ("Literal", "Enum", "StrEnum", "IntEnum", "TypedDict")
COLUMNS = {"model", "task", "method", "harness", "variant", "budget", "data", "setting", "dtype"}
NAMERS = ("identity.py", "record.py", "row.py")  # where columns may be named

# Counts the package's own functions on the stack when the model is asked, in the measured tree.
TRACED = """
import json, sys, traceback
from pathlib import Path
from unibench._compat import repair_torchvision
repair_torchvision()
from transformers import GenerationMixin
OWN = tuple(str(Path({root!r}, part).resolve()) for part in {folders!r})
original, paths = GenerationMixin.generate, []

def generate(self, *args, **kwargs):
    if not paths:
        frames = [f for f, _ in traceback.walk_stack(sys._getframe(1))]
        own = [f for f in frames if str(Path(f.f_code.co_filename).resolve()).startswith(OWN)
               and f.f_code.co_name != "<module>"]
        names = [f"{{Path(f.f_code.co_filename).stem}}.{{f.f_code.co_name}}" for f in reversed(own)]
        paths.append(names)
        Path({out!r}).write_text(json.dumps(names))
    return original(self, *args, **kwargs)

GenerationMixin.generate = generate
"""
EMBEDDED = """
from unibench.cli.main import main
sys.exit(main(["model=tiny_qwen2_5_vl", "method=divprune", "task.limit=1", "out=" + {store!r}]))
"""


@dataclass
class Figures:
    """What was counted in a tree."""

    lines: int = 0
    comments: int = 0
    wide: int = 0
    loose: int = 0
    nested: int = 0
    closed: int = 0
    lists_of_columns: int = 0
    functions: list[int] = field(default_factory=list)
    files: list[int] = field(default_factory=list)

    def table(self) -> dict[str, str]:
        """Each figure by what it says."""
        spread = sorted(self.functions)
        return {
            "Python files": str(len(self.files)),
            "lines per file, median / 90 % / most": _spread(self.files),
            "lines per function, median / 90 % / most": _spread(spread),
            "comments per 100 lines": f"{100 * self.comments / self.lines:.1f}",
            "lines over 100 columns": f"{100 * self.wide / self.lines:.1f} %",
            "nested comprehensions per 1,000 lines": f"{1000 * self.nested / self.lines:.1f}",
            "`dict[str, Any]` per 1,000 lines": f"{1000 * self.loose / self.lines:.1f}",
            "closed sets as types (Literal, Enum, TypedDict)": str(self.closed),
            "lists of columns outside of record and row": str(self.lists_of_columns),
        }


def _spread(values: list[int]) -> str:
    ordered = sorted(values)
    return f"{median(ordered):g} / {ordered[int(0.9 * len(ordered))]} / {ordered[-1]}"


def sources(root: Path) -> Iterator[Path]:
    """The package's files in a checkout; training code and tests are not the package's."""
    for folder in FOLDERS:
        for path in sorted((root / folder).rglob("*.py")):
            inside = path.relative_to(root)
            linked = any((root / parent).is_symlink() for parent in inside.parents)
            if not linked and "train" not in inside.parts:
                yield path


def measure(root: Path) -> Figures:
    """Count the figures of a checkout."""
    figures = Figures()
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        figures.files.append(len(lines))
        figures.lines += sum(1 for line in lines if line.strip())
        figures.wide += sum(1 for line in lines if len(line) > 100)
        figures.loose += len(re.findall(r"dict\[str, Any\]", text))
        figures.comments += _comments(path)
        _count(ast.parse(text), path, figures)
    return figures


def _comments(path: Path) -> int:
    with tokenize.open(path) as stream:
        tokens = list(tokenize.generate_tokens(stream.readline))
    directives = re.compile(r"# ?(noqa|type:|fmt:)")
    found = [token for token in tokens if token.type == tokenize.COMMENT]
    return sum(1 for token in found if not directives.match(token.string))


def _count(tree: ast.Module, path: Path, figures: Figures) -> None:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            figures.functions.append(node.end_lineno - node.lineno + 1)  # type: ignore[operator]
        elif isinstance(node, COMPREHENSIONS):
            inner = (child for child in ast.walk(node) if child is not node)
            figures.nested += any(isinstance(child, COMPREHENSIONS) for child in inner)
        elif isinstance(node, ast.Subscript) and getattr(node.value, "id", "") == "Literal":
            figures.closed += 1
        elif isinstance(node, ast.ClassDef):
            figures.closed += any(getattr(base, "id", "") in CLOSED for base in node.bases)
        elif isinstance(node, (ast.Tuple, ast.List)) and path.name not in NAMERS:
            figures.lists_of_columns += _names_columns(node)


def _names_columns(node: ast.Tuple | ast.List) -> bool:
    """Whether a list names three or more of the columns that tell one cell from another."""
    words = {item.value for item in node.elts if isinstance(item, ast.Constant)}
    return len(words & COLUMNS) >= 3


def path_to_generate(root: Path) -> list[str]:
    """The package's functions between a command and the model, embedded task."""
    with tempfile.TemporaryDirectory() as folder:
        out, store = Path(folder, "path.json"), Path(folder, "store")
        code = TRACED.format(root=str(root), out=str(out), folders=FOLDERS) + EMBEDDED.format(
            store=str(store)
        )
        _run(root, code)
        names: list[str] = json.loads(out.read_text(encoding="utf-8"))
    return names


def paths_through_harness(root: Path) -> tuple[list[str], list[str]]:
    """The functions of the parent down to the child's job, and those of the child to the model.

    The benchmark is one of the tests' stand-ins, so nothing is downloaded.
    """
    with tempfile.TemporaryDirectory() as folder:
        parent, child = Path(folder, "parent.json"), Path(folder, "child.json")
        code = HARNESS.format(
            root=str(root), parent=str(parent), child=str(child), folder=folder, folders=FOLDERS
        )
        _run(root, code)
        return json.loads(parent.read_text()), json.loads(child.read_text())


# The child is started with a sitecustomize of ours, which measures its own stack.
HARNESS = """
import json, os, subprocess, sys, traceback
from pathlib import Path
root, folder = Path({root!r}), Path({folder!r})
site = folder / "site"
site.mkdir()
traced = '''
import sys
class Later:
    def find_spec(self, name, path=None, target=None):
        if name == "transformers.generation.utils":
            sys.meta_path.remove(self)
            import importlib.util
            spec = importlib.util.find_spec(name)
            inner = spec.loader.exec_module
            def execute(module):
                inner(module)
                patch(module)
            spec.loader.exec_module = execute
            return spec
def patch(module):
    import json, traceback
    from pathlib import Path
    original, seen = module.GenerationMixin.generate, []
    def generate(self, *args, **kwargs):
        if not seen:
            frames = [f for f, _ in traceback.walk_stack(sys._getframe(1))]
            names = [Path(f.f_code.co_filename).stem + "." + f.f_code.co_name for f in
                     reversed(frames) if str(Path(f.f_code.co_filename).resolve()).startswith(OWN)
                     and f.f_code.co_name != "<module>"]  # as of the parent's, functions alone
            seen.append(names)
            Path(OUT).write_text(json.dumps(names))
        return original(self, *args, **kwargs)
    module.GenerationMixin.generate = generate
if sys.argv and sys.argv[0] == "-m":
    sys.meta_path.insert(0, Later())
'''
own = tuple(str((root / part).resolve()) for part in {folders!r})
head = "OWN, OUT = " + repr((own, {child!r}))
(site / "sitecustomize.py").write_text(head + traced)
os.environ["PYTHONPATH"] = os.pathsep.join([str(site), str(root)])
original = subprocess.Popen.__init__
def popen(self, command, *args, **kwargs):
    if isinstance(command, list) and "-m" in command and any("unibench" in str(w) for w in command):
        frames = [f for f, _ in traceback.walk_stack(sys._getframe(1))]
        names = [Path(f.f_code.co_filename).stem + "." + f.f_code.co_name for f in reversed(frames)
                 if str(Path(f.f_code.co_filename).resolve()).startswith(own)]
        Path({parent!r}).write_text(json.dumps(names))
    original(self, command, *args, **kwargs)
subprocess.Popen.__init__ = popen
from tests.harness.standins import write
data = folder / "data"
write(data, "vlmevalkit", ["POPE"], 3)
from unibench.cli.main import main
sys.exit(main(["model=tiny_qwen2_5_vl", "method=divprune", "task=pope", "harness=vlmevalkit",
               "task.data=" + str(data), "task.limit=2", "out=" + str(folder / "store")]))
"""


def _run(root: Path, code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{root}: {done.stderr[-2000:]}")


def checkout(commit: str, folder: Path) -> Path:
    """The files of a commit, links included."""
    archive = folder / "tree.tar"
    subprocess.run(["git", "archive", "-o", archive, commit], cwd=ROOT, check=True)
    tree = folder / "tree"
    tree.mkdir()
    subprocess.run(["tar", "-xf", archive, "-C", tree], check=True)
    return tree


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tools.measure_style", description=__doc__)
    parser.add_argument("--against", metavar="COMMIT", help="an earlier commit for comparison")
    parser.add_argument("--harness", action="store_true", help="also run a harness (a minute)")
    options = parser.parse_args()
    columns = {"now": _column(ROOT, options.harness)}
    if options.against:
        with tempfile.TemporaryDirectory() as folder:
            tree = checkout(options.against, Path(folder))
            columns = {options.against: _column(tree, options.harness), **columns}
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in columns["now"]:
        print(f"| {name} | {' | '.join(column.get(name, '') for column in columns.values())} |")


def _column(root: Path, harness: bool) -> dict[str, str]:
    figures = measure(root).table()
    path = path_to_generate(root)
    figures["calls from the command to `generate`"] = f"{len(path)}: {' > '.join(path)}"
    if harness:
        parent, child = paths_through_harness(root)
        path = [*parent, *child]
        figures["the same with a harness"] = f"{len(path)}: {' > '.join(path)}"
    return figures


if __name__ == "__main__":
    main()
