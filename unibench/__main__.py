"""``python -m unibench``."""

from __future__ import annotations

import sys

from unibench.cli import main

if __name__ == "__main__":
    sys.exit(main())
