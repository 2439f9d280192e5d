"""Did a run prune: what its files say, and what a prompt of it does in the model today."""

from __future__ import annotations

from unibench.trace.finding import Finding as Finding
from unibench.trace.live import Watched as Watched
from unibench.trace.live import watched as watched
from unibench.trace.said import of_files as of_files
from unibench.trace.said import of_model as of_model
