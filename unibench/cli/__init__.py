"""The command line."""

from __future__ import annotations

from unibench.cli.main import main as main
