"""``python -m tests.harness.standins <folder> [--size 24] [--harness vlmevalkit] [names]``: write
stand-ins.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tests.harness.standins import FOLDERS, NAMES, write

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.harness.standins")
    parser.add_argument("folder", type=Path)
    parser.add_argument("names", nargs="*", help="official names; all of the harness without")
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--harness", choices=tuple(NAMES), action="append", help="both without")
    given = parser.parse_args()
    for harness in given.harness or NAMES:
        for path in write(
            given.folder,
            harness,
            [
                name
                for name in (*NAMES[harness], *FOLDERS[harness])
                if not given.names or name in given.names
            ],
            given.size,
        ):
            print(path)
