"""``python -m unibench.harness.child job.json``: answer the cells of a job with one model in one
harness.

Further jobs may be named on standard input, one path on each line; the child ends when it
closes.
"""

from __future__ import annotations

import sys

from unibench.credentials import hide_in_tracebacks
from unibench.harness.child.serve import main

if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
