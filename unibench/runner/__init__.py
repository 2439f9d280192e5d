"""Running cells: load once, answer what is missing, write rows."""

from __future__ import annotations

from unibench.runner.run import Listener as Listener
from unibench.runner.run import Runner as Runner
from unibench.runner.run import method_of as method_of
