"""``python -m unibench``."""

from __future__ import annotations

import sys

from unibench.cli import main
from unibench.credentials import hide_in_tracebacks

if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main())
