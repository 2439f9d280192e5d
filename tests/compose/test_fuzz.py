"""Whatever stands on the command line, the answer is cells or one line for each mistake."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unibench.cli import main

KEYS = """
model method task experiment ratio retention keep seed pixels out batch_size share shards harness
timing budget budget.mode generation generation.max_new_tokens generation.repetition_penalty
harness_options.judge.url model.path model.family model.pixels.native model.threads model.selector
task.target task.limit task.data task.options task.options.variant task.vlmevalkit task.kind
method.layer method.name method.selector_path hydra.verbose hydra model@other a.b
"""
VALUES = """
0 1 -1 0.5 7/9 1/0 nan inf 1e99 null true ??? * fastv divprune,fastv idpruner pope synthvqa suite_stp
memory auto ${oc.env:NOPE} ${nope} ${now:%Y} ${eval:1} ${model.path} ${method} ${.} ${ } {} [] {a:1}
[1,[2]] glob(*) range(0,3) interval(0,1) choice(1,2) shuffle(1,2) sort(3,1) tag(a,b) int(x) str(1)
json_str(1) extend_list(1) range(0,1,0) /a=b ~/x d\u00e9j\u00e0 ' "a" \\ \0 a:b.py:C ./no.py:No
unibench.tasks:Nothing os:getcwd 99999999999999999999 ../x
"""
WORDS = st.sampled_from([*KEYS.split(), "", "task.options.a b"])
LINE = st.one_of(
    st.tuples(
        st.sampled_from(["", "", "", "+", "++", "~"]),
        WORDS,
        st.one_of(st.sampled_from(["", *VALUES.split()]), st.text(max_size=6)),
    ).map(lambda drawn: f"{drawn[0]}{drawn[1]}={drawn[2]}"),
    WORDS.map(lambda key: f"~{key}"),
    st.text(max_size=8),
    st.sampled_from(["-m", "--json", "--", "-", "--failed", "-m=1", "--probe"]),
)


def answered(words: Sequence[str]) -> None:
    """``plan`` composes, checks and looks for every cell, and runs nothing."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        code = main(["plan", *words])
    assert code in (0, 2), said.getvalue()
    lines = said.getvalue().splitlines()
    # a plan that stands says at most what of its words changes nothing
    assert lines if code else all("not used" in line for line in lines), lines
    assert "Traceback" not in said.getvalue()


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=4))
def test_no_words_end_in_a_traceback(words: list[str]) -> None:
    answered(words)


@pytest.mark.slow
@settings(derandomize=True, max_examples=5000, deadline=None)
@given(st.lists(LINE, min_size=1, max_size=4))
def test_no_words_of_thousands_end_in_a_traceback(words: list[str]) -> None:
    answered(words)


@pytest.mark.parametrize(
    "words",
    [
        ["keep=${oc.env:NOPE}"],
        ["ratio=${nope}"],
        ["-m", "model=glob(*)"],
        ["-m", "method=glob(nothing*)"],
        ["~method"],
        ["-m", "seed=${eval:1}"],
        ["task.target=memory"],
        ["task.target="],
        ["task.target=.a:B"],
        ["++generation=${now:%Y}"],
        ["+task.vlmevalkit=${model.path}"],
        ["pixels=???"],
        ["-m", "seed=range(0,10000000000)"],
        ["-m", "seed=interval(0,1)"],
        ["out=${out}"],
    ],
    ids=" ".join,
)
def test_words_that_once_did(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["plan", *words])
    error = capsys.readouterr().err
    assert (code, error.count("\n")) == ((2, 1) if words != ["-m", "model=glob(*)"] else (0, 0))
