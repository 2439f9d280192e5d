"""Which harness a cell runs in, what is refused before anything is loaded, and what the key hashes."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest

from tests.support.records import record
from unibench.benchmark import DISTRIBUTIONS, VERSIONS, benchmark_of
from unibench.compose import compose_cells
from unibench.config import HarnessEntry, RunConfig
from unibench.errors import UsageErrors
from unibench.identity import cell_of, vanilla_of
from unibench.inference.row import row_of
from unibench.inference.verdict import Metric, Verdict
from unibench.inputs import pinned_processor

ENDPOINT = (
    "harness_options.judge.kind=endpoint",
    "harness_options.judge.url=http://localhost:1/v1",
    "harness_options.judge.model=judge",
)
REMOTE = "model.trust_remote_code=true"
REQUIREMENTS = Path(__file__).parents[2] / "requirements"
TRAINING = "training.txt"  # installed by `make train-tiny` alone


def cell(*words: str) -> RunConfig:
    (found,) = compose_cells(words, sweep=False)
    return found


def key(*words: str) -> str:
    return cell_of(cell(*words)).key


def complaint(*words: str) -> str:
    with pytest.raises(UsageErrors) as caught:
        cell(*words)
    return str(caught.value)


def test_auto_takes_the_harness_that_the_card_prefers() -> None:
    found = benchmark_of(cell("task=pope"))
    assert found is not None and (found.harness, found.card.name, found.judge.kind) == (
        "vlmevalkit",
        "POPE",
        "exact",
    )


def test_auto_takes_the_only_harness_that_has_a_benchmark() -> None:
    found = benchmark_of(cell("task=nocaps"))
    assert found is not None and found.harness == "lmms_eval"


def test_a_harness_can_be_named() -> None:
    found = benchmark_of(cell("task=pope", "harness=lmms_eval"))
    assert found is not None and (found.harness, found.card.name) == ("lmms_eval", "pope")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("task=pope", "harness=lmms-eval"), "Did you mean lmms_eval?"),
        (("task=nocaps", "harness=vlmevalkit"), "does not have task=nocaps; it is in lmms_eval"),
        (("harness=vlmevalkit",), "task=synthvqa is asked by unibench itself"),
        (
            ("task=pope", "harness_options.judge.kind=gpt"),
            "unknown judge of task=pope in vlmevalkit",
        ),
        (("task=pope", "harness=lmms_eval", *ENDPOINT), "unknown judge of task=pope in lmms_eval"),
        (("task=mathvista",), "give harness_options.judge.url"),
        (("task=pope", "harness_options.wrapper=nativ"), "Did you mean native?"),
        (
            ("task=pope", "model=internvl3_1b", "harness_options.wrapper=native"),
            "InternVL3-1B needs code that is on no index",
        ),
        (
            (
                "task=pope",
                "model=qwen2_5_vl_3b",
                "model.weights=random",
                "harness_options.wrapper=native",
            ),
            "cannot take model.weights=random",
        ),
        (("task=pope", "convention=harnes"), "Did you mean harness?"),
        (("task=pope", "convention=paper:idprune", "harness=lmms_eval"), "mean paper:idpruner?"),
        (("task=pope", "convention=paper:stp"), "is about lmms_eval; add harness=lmms_eval"),
        (
            ("task=pope", "convention=paper:stp", "harness=lmms_eval"),
            "says nothing about family qwen2_5_vl; it has llava, llava_next",
        ),
        (("convention=model",), "asked by unibench itself, under the model's own template"),
        (("task=pope", "convention=model", "prefix=Yes"), "convention=model has none"),
        (
            ("task=pope", "model=llava_onevision_1_5_8b", "pixels=paper", REMOTE),
            "prepares pictures itself and takes no such setting",
        ),
        (("task=pope", "batch_size=2"), "a harness asks one sample at a time"),
        (
            ("task=pope", "task.data=tests"),
            "vlmevalkit looks for POPE.tsv there, with the columns index, image",
        ),
        (("task=pope", "harness=lmms_eval", "task.data=tests"), "lmms_eval looks for pope there"),
    ],
)
def test_mistakes_are_told_before_a_model_is_loaded(words: tuple[str, ...], said: str) -> None:
    assert said in complaint(*words)


def test_a_benchmark_without_a_card_names_no_columns() -> None:
    said = complaint("task=vlmevalkit:Video-MME_8frame", "task.data=tests")
    assert said == "task.data=tests: vlmevalkit looks for Video-MME there"


def test_an_embedded_task_hashes_no_harness() -> None:
    assert cell_of(cell()).identity["harness"] == "none"


def test_what_can_change_a_number_changes_the_key() -> None:
    keys = [
        key("task=pope"),
        key("task=pope", "harness=lmms_eval"),
        key("task=pope", "harness_options.wrapper=native"),
        key("task=pope", *ENDPOINT),
        key("task=pope", *ENDPOINT, "harness_options.judge.model=another"),
        key("task=pope", "task.limit=5"),
        key("task=pope", "model=qwen2_5_vl_3b"),
    ]
    assert len(set(keys)) == len(keys)


def test_what_cannot_change_a_number_leaves_the_key() -> None:
    assert key("task=pope", *ENDPOINT) == key(
        "task=pope", *ENDPOINT, "harness_options.judge.timeout=3", "harness_options.judge.retries=1"
    )
    assert (
        key("task=pope")
        == key("task=pope", "harness_options.judge.model=unused")
        == key("task=pope", "harness=vlmevalkit")
    )


def test_vanilla_is_asked_by_the_same_harness_and_judge() -> None:
    pruned = cell_of(cell("task=pope", "harness=lmms_eval", "method=fastv"))
    assert vanilla_of(pruned).identity["harness"] == pruned.identity["harness"]


TABLE = "index\timage\tquestion\tanswer\n1\tAAAA\tIs it?\tno\n"


def test_local_data_is_in_the_key_and_its_folder_is_not(tmp_path: Path) -> None:
    keys = []
    for name, content in (("a", TABLE), ("b", TABLE), ("c", TABLE.replace("no", "yes"))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "POPE.tsv").write_text(content)
        keys.append(key("task=pope", f"task.data={tmp_path / name}"))
    assert keys[0] == keys[1] != keys[2] and keys[0] != key("task=pope")


def test_a_model_that_no_harness_knows_is_asked_in_its_own_words_and_the_row_says_so() -> None:
    known = cell("task=pope")
    found = benchmark_of(replace(known, model=replace(known.model, harness_entry=HarnessEntry())))
    assert found is not None and found.convention.entry is None
    assert "names no model object of vlmevalkit" in str(found.convention.note)


def test_the_row_says_that_a_card_names_no_model_object_of_the_harness() -> None:
    known = cell("task=pope", "method=vanilla")
    alone = cell_of(replace(known, model=replace(known.model, harness_entry=HarnessEntry())))
    verdict = Verdict(
        metrics={"accuracy": Metric(50.0, 50.0)},
        scores={},
        raw={},
        data="local:x",
        prompts="p",
        generation={},
        judge="exact",
        judged=0,
    )
    here = [{"device": "cpu", "code": "test"}]
    row = row_of(alone, [record(score=None)], here, None, "accuracy", verdict)
    assert [note for note in row.notes if note.startswith("convention: ")] == [
        f"convention: the card of {known.model.name} names no model object of vlmevalkit: the data"
        " set's prompt under the model's own template and processor"
    ]
    named = row_of(cell_of(known), [record(score=None)], here, None, "accuracy", verdict)
    assert not any(note.startswith("convention: ") for note in named.notes)


def test_a_card_says_why_a_harness_s_prompts_are_not_for_its_checkpoint() -> None:
    words = ["task=mmstar", "harness=vlmevalkit", "model=tiny_llava"]
    found = benchmark_of(compose_cells(words, sweep=False)[0])
    assert found is not None and found.convention.entry is None
    assert "says nothing after the blank" in str(found.convention.note)


def test_every_part_of_a_convention_is_in_the_key_and_its_note_is_not() -> None:
    keys = [
        key("task=pope", *words)
        for words in (
            (),
            ("convention=model",),
            ("convention=paper:uniprunebench",),
            ("convention=paper:uniprunebench_text",),
            ("prompt=custom",),
            ("system=none",),
            ("prefix=A",),
            ("generation.repetition_penalty=1.05",),
            ("model.harness_entry.options.vlmevalkit.max_pixels=9999",),
        )
    ]
    assert len(set(keys)) == len(keys)
    assert key("task=pope") == key("task=pope", "+model.harness_entry.differs.vlmevalkit=much")


def test_a_checkpoint_in_a_folder_keeps_its_own_image_settings() -> None:
    """The card pins them for the checkpoint that it names."""
    tiny = cell("model=qwen2_5_vl_7b", "model.path=pkg://unibench.models/tiny/qwen2_5_vl")
    assert tiny.model.processor and pinned_processor(tiny.model) == {}
    said = replace(tiny.model, processor={**tiny.model.processor, "do_resize": False})
    assert pinned_processor(said) == {"do_resize": False}
    published = cell("model=qwen2_5_vl_7b").model
    assert pinned_processor(published) == published.processor


def test_the_verified_versions_are_the_pinned_ones() -> None:
    pinned = pins("harness-nodeps.txt")
    assert {harness: pinned[name] for harness, name in DISTRIBUTIONS.items()} == VERSIONS


def test_what_the_harnesses_own_commands_write_their_tables_with_is_pinned() -> None:
    assert {"xlsxwriter", "pytablewriter"} <= pins("harness.txt").keys() | pins(
        "harness-nodeps.txt"
    ).keys()


def test_the_installed_packages_are_the_pinned_ones() -> None:
    """Stands in for ``pip check``, which knows nothing of what serves both harnesses and hydra at
    once.
    """
    wanted = {
        name: version
        for file in REQUIREMENTS.glob("*.txt")
        if file.name != TRAINING
        for name, version in pins(file.name).items()
    }
    assert {name: metadata.version(name).partition("+")[0] for name in wanted} == wanted


def pins(file: str) -> dict[str, str]:
    lines = (
        line.partition("#")[0].strip() for line in (REQUIREMENTS / file).read_text().splitlines()
    )
    return dict(line.split("==") for line in lines if "==" in line)
