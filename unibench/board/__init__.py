"""A static site of certificates: every method beside every other one, with what each needs."""

from __future__ import annotations

from unibench.board.site import Site as Site
from unibench.board.site import build as build
