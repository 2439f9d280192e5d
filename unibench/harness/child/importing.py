"""Importing VLMEvalKit switches the verification of TLS certificates and gradients off for the
whole process; here both stay.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def settings_kept() -> Iterator[None]:
    """What is imported inside the block leaves the default TLS context and the gradient mode as
    they were.
    """
    # the module's default is what urllib takes for every later connection
    context, gradients = ssl._create_default_https_context, torch.is_grad_enabled()
    try:
        yield
    finally:
        ssl._create_default_https_context = context
        torch.set_grad_enabled(gradients)
