"""What the test of an author's own file calls."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from unibench import registry
from unibench.kit.rules import RULES, Fault, LeftOut, held
from unibench.kit.trial import Trial, files_of, spec_of
from unibench.models import LoadedModel
from unibench.pruning import Method
from unibench.tasks import Task


def method_in(file: Path, name: str) -> Method:
    """A method of a file under its defaults.

    Args:
        file: of one's own.
        name: of the class.
    """
    return registry.build_method(f"{file}:{name}")


def task_in(file: Path, name: str) -> Task:
    """A task of a file under its defaults.

    Args:
        file: of one's own.
        name: of the class.
    """
    return registry.build_task(f"{file}:{name}", name.lower(), {})


@cache
def _small(family: str) -> LoadedModel:
    """The small model of a family, built once for all tests of a process."""
    return Trial.of(registry.build_method("vanilla"), [], spec_of(family)).loaded


def try_rule(method: Method, rule: str, family: str = "qwen2_5_vl") -> None:
    """Try a rule of :data:`unibench.kit.RULES` on a small random model.

    Args:
        method: of one's own.
        rule: by name.
        family: of the model.

    Raises:
        AssertionError: it does not hold; the line of the method is named.
    """
    trial = Trial(method, files_of(method), _small(family))
    try:
        held(RULES[rule], trial)
    except LeftOut:
        return
    except Fault as fault:
        raise AssertionError(f"{rule}: {fault.reason} [{fault.place}]") from None
