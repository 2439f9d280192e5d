"""A chat template is a program of the checkpoint's: it runs in jinja's sandbox, within bounds."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any, TypeVar
from unittest.mock import patch

import jinja2
from jinja2 import nodes
from transformers import processing_utils, tokenization_utils_base

from unibench.errors import UsageError, shown

STEPS = 100_000  # lines of a template that one prompt may take; those of published models take 100
LARGEST = 4 << 20  # characters of a text that it may make
MOST = 100_000  # the largest number in a template
T = TypeVar("T")
_FILE = "<template>"  # what jinja calls the code that it makes of a string


def prompted(apply: Callable[..., Any], content: Sequence[dict[str, str]], what: str) -> str:
    """The chat template around the content of a user turn.

    Args:
        apply: ``apply_chat_template`` of a processor.
        content: of the turn.
        what: names the template in an error.

    Raises:
        UsageError: it does not end, makes no text, or fails.
    """
    turn = {"role": "user", "content": list(content)}
    text = _within_bounds(partial(apply, [turn], add_generation_prompt=True, tokenize=False), what)
    if not isinstance(text, str):
        raise UsageError(f"{what} makes no text")
    return text


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Inside, every chat template stays within the same bounds, whoever has it rendered."""
    render = processing_utils.render_jinja_template

    def within(*args: Any, **kwargs: Any) -> Any:
        return _within_bounds(partial(render, *args, **kwargs), what)

    with (
        patch.object(processing_utils, "render_jinja_template", within),
        patch.object(tokenization_utils_base, "render_jinja_template", within),
    ):
        yield


def _within_bounds(rendered: Callable[[], T], what: str) -> T:
    # a debugger or a coverage run may be tracing already
    before, bounds = sys.gettrace(), _Bounds(what)
    sys.settrace(bounds.enter)
    try:
        return rendered()
    except (
        jinja2.TemplateError, ArithmeticError, MemoryError, RecursionError, TypeError, ValueError,
        AttributeError, LookupError,
    ) as error:  # fmt: skip
        raise UsageError(f"{what} fails: {shown(error) or type(error).__name__}") from error
    finally:
        sys.settrace(before)


class _Bounds:
    """A trace function: unlike a timer it works in every thread, and stops each machine at the same
    line. Other code than a template's is not traced.
    """

    def __init__(self, what: str) -> None:
        self._what, self._steps = what, 0

    def enter(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._step if frame.f_code.co_filename == _FILE else None

    def _step(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._steps += 1
        if self._steps > STEPS:
            raise UsageError(f"{self._what} does not end: it was stopped after {STEPS} steps")
        # jinja compiles a template to Python, whose local variables hold what it has built
        for value in frame.f_locals.values():
            # a namespace keeps what a loop adds up
            texts = getattr(value, "_Namespace__attrs", {}).values() if value else ()
            if any(isinstance(text, str) and len(text) > LARGEST for text in (value, *texts)):
                raise UsageError(f"{self._what} makes texts of more than {LARGEST} characters")
        return self._step


def check_template(processor: Any, what: str) -> None:
    """Refuse a chat template that may hang or fill the memory in one step, where no trace function
    is called, or that fails.

    Raises:
        UsageError: it takes powers, multiplies by large numbers, or does not end.
    """
    templates = getattr(processor, "chat_template", None)
    if not templates:
        return
    for template in templates.values() if isinstance(templates, dict) else [templates]:
        if any(map(_is_large, _nodes(str(template)))):
            raise UsageError(
                f"{what} takes powers or large multiples, which no template needs and which may"
                " take all of the memory"
            )
    prompted(
        processor.apply_chat_template, [{"type": "image"}, {"type": "text", "text": "?"}], what
    )


def _nodes(template: str) -> Iterator[nodes.Node]:
    """The expressions of a template; none of a damaged one, which is named when it is used."""
    # the tag of transformers, which says what of a prompt the model itself wrote
    plain = re.sub(r"{%(-?)\s*(end)?generation\b", r"{%\1 \2filter trim", template)
    plain = plain.replace("endfilter trim", "endfilter")
    try:
        tree = jinja2.Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)
    except (jinja2.TemplateError, RecursionError):
        return iter(())
    return tree.find_all(nodes.Expr)


def _is_large(node: nodes.Node) -> bool:
    if isinstance(node, nodes.Mul):
        return not any(isinstance(side, nodes.Const) for side in (node.left, node.right))
    if isinstance(node, nodes.Const):
        return isinstance(node.value, (int, float)) and node.value > MOST
    return isinstance(node, nodes.Pow)
