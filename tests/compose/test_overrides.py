"""The words of a command: paths, own methods in sweeps, budgets, ranges, presets."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from unibench import registry
from unibench.compose import compose_cells, composed
from unibench.config import RunConfig, budget_of, mistakes, typed
from unibench.errors import UsageError, UsageErrors
from unibench.overrides import parse
from unibench.schema import wanted, without_literals

OWN = """from dataclasses import dataclass
from unibench import Method


@dataclass(frozen=True)
class {name}(Method):
    bias: int = {bias}

    def score(self, ctx):
        return -ctx.vision_rows.float()
"""


def own_method(folder: Path, name: str, bias: int = 0) -> str:
    folder.mkdir(exist_ok=True, parents=True)
    (folder / "mine.py").write_text(OWN.format(name=name, bias=bias))
    return f"{folder / 'mine.py'}:{name}"


def test_own_methods_by_path_stand_in_a_sweep(tmp_path: Path) -> None:
    first, second = own_method(tmp_path / "a", "First"), own_method(tmp_path / "b", "Second")
    cells = compose_cells([f"method={first},{second},divprune", "ratio=0.5,0.8"], sweep=True)
    assert [(cell.method["name"], cell.ratio) for cell in cells] == [
        ("first", 0.5),
        ("first", 0.8),
        ("second", 0.5),
        ("second", 0.8),
        ("divprune", 0.5),
        ("divprune", 0.8),
    ]
    assert cells[0].method["source"] == first and "source" not in cells[-1].method


@pytest.mark.parametrize("folder", ["run=3", "set (1)", "set [a]", "déjà vu", "圖片", "it's, {b}"])
def test_a_path_with_signs_of_the_grammar_is_taken_as_it_is(folder: str, tmp_path: Path) -> None:
    place = own_method(tmp_path / folder, "Mine")
    if "'" in folder:
        with pytest.raises(UsageError, match="needs quotes"):
            compose_cells([f"method={place}"], sweep=False)
        return
    (cell,) = compose_cells([f"method={place}", f"out={tmp_path / folder}"], sweep=False)
    assert (cell.method["source"], cell.out) == (place, str(tmp_path / folder))


def test_a_folder_of_results_below_the_home_is_found_there() -> None:
    (cell,) = compose_cells(["out=~/results"], sweep=False)
    assert cell.out == str(Path.home() / "results")


def test_an_edited_method_of_ones_own_is_composed_anew(tmp_path: Path) -> None:
    for bias in (1, 23):
        place = own_method(tmp_path, "Mine", bias)
        (cell,) = compose_cells([f"method={place}"], sweep=False)
        assert cell.method["bias"] == bias


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ([], "0.889"),
        (["keep=64"], "keep64"),
        (["retention=0.25"], "0.75"),
        (["ratio=7/9"], "7of9"),
        (["keep=null"], "0.889"),
    ],
)
def test_one_way_to_state_the_budget_replaces_the_default(words: list[str], label: str) -> None:
    (cell,) = compose_cells(words, sweep=False)
    assert budget_of(cell).label == label


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["keep=64", "ratio=0.5"], "state the budget once"),
        (["ratio=null"], "no budget: give ratio=0.889"),
        (["method=fastv,dart"], "add -m"),
        (["+method=fastv"], "a cell has one method; write method=<name>"),
        (["~method"], "a cell has one method"),
        (["model=[a,b]"], "a cell has one model"),
        (["seed=99999999999999999999"], "seed=99999999999999999999 is too large"),
        (["shards=100001"], "shards=100001 is too large; at most 100000"),
        (["model.threads=1025"], "model.threads=1025 is too large; at most 1024"),
        (["model.threads=0"], "model.threads=0 is too small; at least 1"),
        (["generation.repetition_penalty=nan"], "is not a finite number"),
        (["generation.repetition_penalty=0"], "is too small; more than 0"),
        (["harness_options.judge.retries=-1"], "is too small; at least 0"),
        (["batch_size=0"], "batch_size=0 is too small; at least 1"),
        (["batch_size=many"], "unknown batch_size 'many'"),
        (["model.dtype=float"], "unknown model.dtype 'float'. Did you mean float16?"),
        (["keep=0.5"], "keep=0.5: a whole number or null is wanted"),
        (["timing=maybe"], "timing=maybe: true or false is wanted"),
        (["task.name=mine"], "unknown key 'task.name'"),
        (["+model.colour=red"], "Keys may be added below task.options"),
        (["ratio=a=b"], "needs quotes"),
    ],
)
def test_what_is_refused_is_one_line(words: list[str], said: str) -> None:
    with pytest.raises(UsageError) as refused:
        compose_cells(words, sweep=False)
    assert said in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "swept", "bad"),
    [
        (["method=divprune"], ["positions=original", "positions=centre"], "positions=centre"),
        (
            ["task=pope", "prompt=custom", "model=qwen2_5_vl_7b"],
            ["convention=harness", "convention=model"],
            "convention=model",
        ),
        (
            ["task=pope", "harness_options.wrapper=native"],
            ["model=qwen2_5_vl_7b", "model=llava_1_5_7b"],
            "llava",
        ),
    ],
)
def test_a_sweep_has_the_mistakes_of_its_cells_in_any_order(
    words: list[str], swept: list[str], bad: str
) -> None:
    values = [line.partition("=")[2] for line in swept]
    key = swept[0].partition("=")[0]
    said = []
    for order in (values, values[::-1]):
        with pytest.raises(UsageErrors) as found:
            compose_cells([*words, f"{key}={','.join(order)}"], sweep=True)
        said.append(sorted(map(str, found.value.errors)))
    assert said[0] == said[1] and len(said[0]) == 1 and bad in said[0][0]


def test_a_preset_is_its_method_under_other_parameters() -> None:
    (preset,) = compose_cells(["method=sparsevlm_64"], sweep=False)
    (plain,) = compose_cells(["method=sparsevlm", "method.counts=[66,30,17]"], sweep=False)
    assert preset == plain and preset.method["counts"] == [66, 30, 17]
    (own,) = compose_cells(["method=sparsevlm_64", "method.recycle=0.2"], sweep=False)
    assert own.method == {**preset.method, "recycle": 0.2}


# test_hydra.py composes each of them by default
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if number % 8 == 0 else [pytest.mark.slow])
        for number, name in enumerate(sorted(registry.methods()))
    ],
)
def test_hydra_finds_every_method_under_its_name(name: str) -> None:
    node = OmegaConf.to_container(composed([f"method={name}"]).method)
    assert node == registry.methods()[name].config()


def test_a_cell_that_was_stored_before_the_ratio_had_a_default_keeps_its_budget() -> None:
    (cell,) = compose_cells(["method=fastv"], sweep=False)
    stored = {**asdict(cell), "ratio": None}
    assert typed(stored) == cell and budget_of(typed(stored)).label == "0.889"
    vanilla = {**stored, "method": {"name": "vanilla"}}
    assert typed(vanilla).ratio is None
    with pytest.raises(UsageError, match="is not a configuration of RunConfig"):
        typed({**stored, "colour": "red"})


def test_the_schema_that_hydra_reads_has_the_fields_and_defaults_of_the_dataclasses() -> None:
    plain = OmegaConf.to_container(OmegaConf.structured(without_literals(RunConfig)))
    assert isinstance(plain, dict)
    for name in ("ratio", "batch_size", "share", "harness", "out"):
        assert plain[name] == getattr(RunConfig, name)
    (cell,) = compose_cells([], sweep=False)
    assert not list(mistakes(cell))
    assert [str(error) for error in mistakes(replace(cell, share="disc"))] == [  # type: ignore[arg-type]
        "unknown share 'disc'. Did you mean disk? Known: disk, memory, none"
    ]


def test_what_a_key_takes_is_said_in_words() -> None:
    words = {key: wanted(RunConfig, key) for key in ("keep", "batch_size", "model.pixels", "model")}
    assert words == {
        "keep": "a whole number or null",
        "batch_size": "a whole number or auto",
        "model.pixels": "a mapping",
        "model": "a mapping",
    }


def test_a_line_that_cannot_be_read_says_how_one_is_written() -> None:
    with pytest.raises(UsageError, match="Write key=value, for example ratio=0.889"):
        parse("ratio=[1,2")
