"""The repair of torchvision for every program of an environment, whatever it imports first.

``make install`` runs ``python -m unibench._startup``, which writes a ``.pth`` file into the
environment. Python then imports this module at its start: it waits for an import of torchvision and
repairs what :mod:`unibench._compat` describes before it. Nothing here imports torch until then.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

PTH = "unibench_torchvision.pth"
# Python runs single lines of such a file, those that begin with import; an environment without
# unibench starts as ever
TRY = "try:\\n import unibench._startup as s; s.watch()\\nexcept ImportError: pass"
LINE = f"import sys; exec('{TRY}')\n"


class Watcher:
    """Finds nothing itself, and sees torchvision being looked for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Always None: the next finder goes on."""
        if name == "torchvision" and Watcher in sys.meta_path:
            sys.meta_path.remove(Watcher)  # the repair looks for torchvision too
            try:
                from unibench._compat import repair_torchvision
            except ImportError:  # no torch: torchvision will say so
                return None
            repair_torchvision()
        return None


def watch() -> None:
    """Repair torchvision when it is first imported."""
    if Watcher not in sys.meta_path and "torchvision" not in sys.modules:
        sys.meta_path.insert(0, Watcher)


def install(folder: Path) -> Path:
    """Write the ``.pth`` file into a folder of packages."""
    file = folder / PTH
    file.write_text(LINE, encoding="utf-8")
    return file


if __name__ == "__main__":
    print(install(Path(sysconfig.get_path("purelib"))))
