"""Importing VLMEvalKit switches the verification of TLS certificates off for the whole process; here it stays on."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept() -> Iterator[None]:
    """What is imported inside the block leaves the default TLS context as it was."""
    before = ssl._create_default_https_context
    try:
        yield
    finally:
        ssl._create_default_https_context = before
