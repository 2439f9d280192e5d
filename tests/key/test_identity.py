"""The key covers what decides an answer, and stored identities say what they have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import is_dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from unibench import device, engines, hub, identity, inputs, registry
from unibench.cli import main
from unibench.cluster.plan import code_digest, read_plan, write_plan
from unibench.code.closure import Code
from unibench.compose import compose_cells
from unibench.config import HarnessTask, RunConfig
from unibench.errors import UsageError
from unibench.identity import (
    ENGINE,
    FUSED,
    HARNESSES,
    OUTSIDE,
    SERVED,
    Cell,
    candidate_of,
    cell_of,
    cells_of,
    condition_of,
    key_of,
    series_of,
    setting_of,
    settled,
    vanilla_of,
)

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "fedcba9876543210fedcba9876543210fedcba98"


def cell(*words: str) -> Cell:
    (config,) = compose_cells(["model=tiny_qwen2_5_vl", *words], sweep=False)
    return cell_of(config)


# -- what two cells have in common

STORED = {  # as schema 2 wrote it
    "schema": 2, "engine": 1, "source": "a1", "seed": 0, "data": "code:b2", "batch_size": 1,
    "model": {"name": "tiny", "weights": "files:c3"}, "method": {"name": "fastv", "layer": 2},
    "budget": {"label": "0.889", "mode": "at_stage", "scope": "sequence"}, "pixels": {"native": {}},
    "task": {"name": "synthvqa", "limit": 9}, "generation": {}, "harness": "none",
}  # fmt: skip


def identities() -> Iterator[dict[str, Any]]:
    yield STORED
    yield cell("method=fastv").identity


@pytest.mark.parametrize("stored", identities(), ids=["schema 2", "schema 3"])
def test_cells_that_differ_in_nothing_but_the_seed_are_of_one_series(stored) -> None:  # type: ignore[no-untyped-def]
    assert series_of({**stored, "seed": 5}) == series_of(stored)
    for name in stored:
        if name not in ("seed", "code"):
            assert series_of({**stored, name: "other"}) != series_of(stored), name


@pytest.mark.parametrize("stored", identities(), ids=["schema 2", "schema 3"])
def test_cells_that_differ_in_method_budget_and_seed_are_of_one_setting(stored) -> None:  # type: ignore[no-untyped-def]
    free = {"method", "source", "budget", "seed", "clip"}
    for name in {*stored, "clip"} - {"code"}:
        same = setting_of({**stored, name: "other"}) == setting_of(stored)
        assert same == (name in free), name


@pytest.mark.parametrize(
    ("part", "setting", "condition"),
    [("method", True, True), ("task", False, True), ("family", False, False), ("engine", False, False)],
)  # fmt: skip
def test_code_of_the_method_alone_leaves_the_setting(
    part: str, setting: bool, condition: bool
) -> None:
    stored = cell("method=fastv").identity
    other = {**stored, "code": {**stored["code"], part: "other"}}
    assert (setting_of(other) == setting_of(stored)) == setting
    assert (condition_of(other) == condition_of(stored)) == condition
    assert (candidate_of(other) == candidate_of(stored)) == (part != "method")
    assert key_of(other) != key_of(stored) and series_of(other) != series_of(stored)


def test_rows_of_two_engines_never_share_a_setting_whatever_schema_wrote_them() -> None:
    new = cell("method=fastv").identity
    other = {**new, "code": {**new["code"], "engine": "another"}}
    settings = {setting_of(entry) for entry in (STORED, {**STORED, "engine": 2}, new, other)}
    assert len(settings) == 4


@pytest.mark.parametrize("method", ["fastv", "cdpruner", "two_stage"])
def test_vanilla_has_the_setting_of_what_is_compared_to_it(method: str) -> None:
    pruned = cell(f"method={method}", "seed=3", "ratio=0.5", "model.clip=openai/clip-of-a-test")
    vanilla = vanilla_of(pruned)
    assert vanilla.setting == pruned.setting and vanilla.series != pruned.series
    assert vanilla.key == cell("method=vanilla", "model.clip=openai/clip-of-a-test").key


def test_cells_made_together_are_those_made_one_by_one() -> None:
    configs = compose_cells(["method=fastv,divprune", "ratio=0.5,0.75"], sweep=True)
    assert [each.key for each in cells_of(configs)] == [cell_of(config).key for config in configs]


# -- what the key covers


def test_the_code_of_a_method_that_another_is_made_of_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inner = tmp_path / "mine.py"
    source = "from dataclasses import dataclass\nfrom unibench import Method\n@dataclass(frozen=True)\nclass Mine(Method):\n    def score(self, ctx): return {}ctx.vision_rows.float()\n"
    inner.write_text(source.format(""))
    words = ("method=two_stage", f"method.pre={inner}:Mine")
    digests = [identity.code_digest([f"{inner}:Mine"])]
    inner.write_text(source.format("-"))
    assert identity.code_digest([f"{inner}:Mine"]) not in digests
    first = cell(*words).identity["code"]["method"]
    assert first != cell("method=two_stage").identity["code"]["method"]


def test_a_file_that_a_parameter_names_counts_by_its_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = tmp_path / "scorer.safetensors"
    table.write_bytes(bytes(3 << 20))
    for name in (str(table), "scorer.safetensors", "./scorer.safetensors"):
        named = {"path": name, "parts": [name], "mode": "adaptive"}
        first = identity.value_digest(named)
        assert first["path"] == first["parts"][0] != name and first["mode"] == "adaptive"
        with table.open("r+b") as stream:
            stream.seek(1 << 20)
            stream.write(os.urandom(8))
        assert identity.value_digest(named) != first


@pytest.mark.parametrize("where", ["absolute", "above", "link"])
def test_a_picture_outside_of_the_data_folder_counts(tmp_path: Path, where: str) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    data.mkdir()
    elsewhere.mkdir()
    (elsewhere / "a.png").write_bytes(b"one")
    (data / "link.png").symlink_to(elsewhere / "a.png")
    names = {
        "absolute": str(elsewhere / "a.png"),
        "above": "../elsewhere/a.png",
        "link": "link.png",
    }
    entry = {"image": [names[where]], "question": "?", "answer": "a"}
    (data / "questions.jsonl").write_text(f"{json.dumps(entry)}\n")
    words = ("task=folder", f"task.data={data}")
    first = cell(*words)
    (elsewhere / "a.png").write_bytes(b"two")
    assert cell(*words).key != first.key and cell(*words).setting != first.setting


def test_pictures_that_a_table_names_count(tmp_path: Path) -> None:
    picture, table = tmp_path / "a.png", tmp_path / "MME.tsv"
    table.write_text(f"index\timage_path\n1\t['{picture}', 'b.png']\n2\t{picture}\n")
    assert [*inputs._in_table(table)] == [str(picture), str(picture)]


def test_code_that_comes_with_a_checkpoint_counts(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    own = {"model_type": "qwen2_5_vl", "auto_map": {"AutoModel": "modeling.Mine"}}
    (folder / "config.json").write_text(json.dumps(own))
    (folder / "modeling.py").write_text("x = 1\n")
    keys = [
        cell(f"model.path={folder}", f"model.trust_remote_code={trust}").key
        for trust in ("true", "false")
    ]
    (folder / "modeling.py").write_text("x = 2\n")
    keys.append(cell(f"model.path={folder}", "model.trust_remote_code=true").key)
    assert len({*keys}) == 3


def repository(name: str, commit: str, branch: str = "main") -> Path:
    """A repository in the hub's cache whose branch points to a commit."""
    folder = hub.cache_of(name)
    for place in (folder / "refs", folder / "snapshots" / commit):
        place.mkdir(parents=True, exist_ok=True)
    (folder / "refs" / branch).write_text(commit)
    (folder / "snapshots" / commit / "config.json").write_text("{}")
    return folder


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(hub, "answers", lambda: False)
    return tmp_path / "hub"


def test_the_commit_that_a_branch_of_the_hub_points_to_is_in_the_key(hub_cache: Path) -> None:
    words = ("model=qwen2_5_vl_7b", "task=synthvqa")
    assert not cell(*words).final
    keys = []
    for commit in (COMMIT, OTHER):
        repository("Qwen/Qwen2.5-VL-7B-Instruct", commit)
        found = cell(*words)
        assert found.final and found.identity["model"]["weights"].endswith(f"@{commit}")
        keys.append(found.key)
    keys.append(cell(*words, f"model.revision={COMMIT}").key)
    assert keys[0] == keys[2] != keys[1]


def test_code_from_another_repository_counts_by_its_commit(hub_cache: Path) -> None:
    words = ("model=qwen2_5_vl_7b", "task=synthvqa", "model.trust_remote_code=true")
    folder = repository("Qwen/Qwen2.5-VL-7B-Instruct", COMMIT)
    config = {"auto_map": {"AutoModel": "somebody/code--modeling.Mine"}}
    (folder / "snapshots" / COMMIT / "config.json").write_text(json.dumps(config))
    keys = []
    for commit in (COMMIT, OTHER):
        repository("somebody/code", commit)
        keys.append(cell(*words).key)
    assert keys[0] != keys[1]


def test_the_key_is_settled_by_downloading_the_configuration(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = [cell("model=qwen2_5_vl_7b"), cell()]
    assert [each.key for each in settled(before)] == [each.key for each in before]

    def download(checkpoint: str, name: str, *, revision: str | None) -> None:
        repository(checkpoint, COMMIT)

    monkeypatch.setattr(hub, "answers", lambda: True)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    after = settled(before)
    assert after[0].final and after[0].key != before[0].key and after[1] is before[1]


def test_plan_and_submit_say_that_a_key_comes_after_the_download(
    hub_cache: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    words = ["model=qwen2_5_vl_7b", "task=synthvqa", f"out={tmp_path}"]
    assert main(["plan", *words, "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert {entry["key"] for entry in plan["cells"]} == {"key after download"}
    assert main(["plan", *words]) == 0
    assert "key after download" in capsys.readouterr().out
    assert main(["submit", *words, "cluster=slurm"]) == 2
    assert "python -m unibench prefetch" in capsys.readouterr().err


def test_the_clip_of_a_model_is_in_the_key_of_the_methods_that_read_the_question_alone(
    hub_cache: Path,
) -> None:
    names = {"text": "method=cdpruner", "other": "method=divprune", "vanilla": "method=vanilla"}
    before = {name: cell(word, "model.clip=openai/clip") for name, word in names.items()}
    repository("openai/clip", COMMIT)
    after = {name: cell(word, "model.clip=openai/clip") for name, word in names.items()}
    changed = {name for name in names if before[name].key != after[name].key}
    assert changed == {"text"} and after["text"].setting == before["text"].setting


# -- the device


def test_the_type_of_the_device_counts_and_its_number_does_not() -> None:
    keys = {name: cell(f"model.device={name}").key for name in ("cpu", "cuda", "cuda:0", "cuda:1")}
    assert keys["cuda"] == keys["cuda:0"] == keys["cuda:1"] != keys["cpu"]


@pytest.mark.parametrize(
    ("visible", "count", "built", "expected"),
    [
        (None, 2, True, "cuda"),
        ("0,1", 2, True, "cuda"),
        ("MIG-1a", 2, True, "cuda"),
        ("", 2, True, "cpu"),
        ("-1", 2, True, "cpu"),
        ("NoDevFiles", 2, True, "cpu"),
        (None, 0, True, "cpu"),
        (None, 2, False, "cpu"),
    ],
)
def test_auto_is_told_without_torch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, built: bool, expected: str
) -> None:  # fmt: skip
    (tmp_path / "lib").mkdir()
    if built:
        (tmp_path / "lib" / device.BUILDS[0]).touch()
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(device, "find_spec", lambda name: spec)
    monkeypatch.setattr(device, "_count", lambda: count)
    monkeypatch.delitem(device.sys.modules, "torch")
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    device._has_gpu.cache_clear()
    try:
        assert device.device_type("auto") == expected
    finally:
        device._has_gpu.cache_clear()


def test_a_plan_is_not_worked_off_on_another_type_of_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_plan([cell(f"out={tmp_path}")], [])
    monkeypatch.setattr(identity, "device_type", lambda asked: "cuda")
    with pytest.raises(UsageError, match=r"model.device=auto is cpu where .* and cuda here"):
        read_plan(folder)


# -- the code of the package


def test_nodes_compare_the_whole_code(tmp_path: Path) -> None:
    assert code_digest() == code_digest() and "-" in code_digest()


def test_every_root_of_the_table_is_there() -> None:
    code = Code(outside=identity.OUTSIDE)
    assert code.reach(identity.ENGINE).digests
    for roots in identity.HARNESSES.values():
        assert code.reach(roots).digests


def test_the_engine_reaches_every_module_that_cuts_and_counts() -> None:
    found = {
        name.partition(":")[0]
        for name in Code(outside=identity.OUTSIDE).reach(identity.ENGINE).digests
    }
    cutting = {
        "session",
        "chooser",
        "context",
        "cutting",
        "vision",
        "attention",
        "eviction",
        "prompt",
        "record",
        "encoder",
        "signals",
        "layout",
    }
    assert {f"unibench.pruning.{name}" for name in cutting} <= found
    assert {
        "unibench.budget",
        "unibench.cost.flops",
        "unibench.models._loading",
        "unibench.models._clip",
    } <= found


def test_a_stand_in_config_of_another_family_has_another_key() -> None:
    base = cell()
    model = replace(base.config.model, family="qwen2_vl")
    other = cell_of(replace(base.config, model=model))
    assert other.identity["code"]["family"] != base.identity["code"]["family"]


def test_a_harness_loads_the_commit_that_the_key_names(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from unibench.harness.child import native

    asked: dict[str, Any] = {}

    def download(checkpoint: str, **options: Any) -> str:
        asked.update(options, checkpoint=checkpoint)
        return "/folder"

    monkeypatch.setattr(native, "snapshot_download", download)
    repository("Qwen/Qwen2.5-VL-7B-Instruct", COMMIT)
    assert native.source_of(cell("model=qwen2_5_vl_7b").config.model) == "/folder"
    assert asked["revision"] == COMMIT and asked["local_files_only"]


# -- a new entry of the configuration is in the key, or said here to change no number

OTHER_NUMBERS: dict[str, Any] = {
    "model.name": "another",
    "model.family": "llava",
    "model.checkpoint": "nobody/another",
    "model.revision": "v2",
    "model.path": "pkg://unibench.models/tiny/qwen2_5_vl",
    "model.weights": "random",
    "engine": "vllm",
    "fuse": "cells",  # which cells share a batch changes the last bits
    "model.adapter": "pkg://unibench.models/tiny/qwen2_5_vl",
    "model.processor_path": "nobody/a-processor",
    "model.dtype": "float16",
    "model.attn": "eager",
    "model.device": "cuda",
    "model.quantization": "8bit",
    "model.trust_remote_code": True,
    "model.pixels": {"native": {"size": 1}},
    "model.processor": {"size": 1},
    "model.clip": "nobody/a-clip",
    "model.harness_entry.vlmevalkit": "AnotherModel",
    "model.harness_entry.options": {"vlmevalkit": {"a": 1}},
    "method": {"name": "fastv", "layer": 3},
    "task.name": "another",
    "task.limit": 7,
    "task.modality": "video",
    "task.options": {"a": 1},
    "task.vlmevalkit": HarnessTask(name="AnotherTask"),
    "ratio": 0.5,
    "retention": 0.5,
    "keep": 9,
    "seed": 1,
    "repeat": 1,
    "control": "resize",
    "positions": "compact",
    "after_state": True,
    "diagnostics": "all",
    "text_after_video": "last",
    "pixels": "paper",
    "video.frames": 4,
    "video.fps": 2.0,
    "video.most": 64,
    "video.thin": 32,
    "video.min_pixels": 12544,
    "video.max_pixels": 200704,
    "video.total_pixels": 90316800,
    "video.reader": "processor",
    "convention": "model",
    "prompt": "dataset",
    "system": "none",
    "prefix": "The answer is",
    "batch_size": 2,
    "budget.mode": "layer_average",
    "budget.scope": "item",
    "budget.rounding": "python_int",
    "generation.max_new_tokens": 3,
    "generation.repetition_penalty": 1.1,
    "harness": "lmms_eval",
    "harness_options.wrapper": "native",
    "harness_options.judge.kind": "endpoint",
    "timing": False,
}
SAME_NUMBERS: dict[str, Any] = {
    "model.card": "another",
    "task.card": "another",
    "model.device_map": "auto",
    "model.adapter_mode": "wrap",  # of an adapter, whose digest it stands before
    "model.threads": 2,  # rounding alone, and the environment of a row says it
    "model.architecture": {"a": 1},  # of random weights, where it is in the key
    "model.harness_entry.lmms_eval": "another",  # of the harness that does not ask
    "model.harness_entry.differs": {"vlmevalkit": "a sentence"},
    "model.selector": "selector.safetensors",  # a method's parameter follows it
    "task.ability": "another",
    "task.prefer": "lmms_eval",  # decides `harness`, which is in the key
    "task.differs": "a sentence",
    "harness_options.python": "/usr/bin/python3",
    "harness_options.judge.model": "m",  # of an endpoint, where they are in the key
    "harness_options.judge.url": "http://localhost/v1",
    "harness_options.judge.key": "KEY",
    "harness_options.judge.timeout": 1.0,
    "harness_options.judge.retries": 1,
    "scores": True,  # kept beside the answers, which they leave as they are
    "out": "elsewhere",
    "shared": "elsewhere",
    "share": "memory",
    "share_mib": 1,
    "serve.python": "/usr/bin/python3",
    "serve.options": {"max_model_len": 8192},  # of a serving engine, where they are in the key
    "fuse_rows": 2,  # of a fused cell, each of whose samples says beside which others it stood
    "shards": 2,
}
# what an embedded task says, of which a benchmark of a harness has nothing
ELSEWHERE = {"task.kind", "task.target", "task.data", "task.lmms_eval"}


def test_a_label_says_that_a_cut_came_behind_a_state() -> None:
    words = ["model=qwen3_5_9b", "model.weights=random", "method=fastv", "method.layer=4"]
    (config,) = compose_cells([*words, "after_state=true", "ratio=0.5"], sweep=False)
    cell = cell_of(config)
    assert cell.variant == "layer=4,after_state=true" and cell.identity["after_state"] is True
    # nothing is removed from the unpruned model
    assert "after_state" not in vanilla_of(cell).identity


@pytest.fixture(autouse=True)
def serving_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The versions that an environment of a serving engine would say it has."""
    monkeypatch.setattr(engines, "interpreter", lambda config: "python")
    found = {"vllm": "0.32.0", "transformers": "5.19.0"}
    monkeypatch.setattr(engines, "versions", lambda python: found)


def benchmark_config() -> RunConfig:
    words = ["model=qwen2_5_vl_7b", "model.device=cpu", "method=fastv", "task=pope"]
    (config,) = compose_cells([*words, "harness=vlmevalkit"], sweep=False)
    return config


def entries(config: Any, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a configuration; a card of a harness is one."""
    for name, value in vars(config).items():
        if is_dataclass(value) and not isinstance(value, HarnessTask):
            yield from entries(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def with_entry(config: Any, key: str, value: Any) -> Any:
    name, _, inner = key.partition(".")
    return replace(
        config, **{name: with_entry(getattr(config, name), inner, value) if inner else value}
    )


def test_every_entry_of_the_configuration_is_known_to_change_numbers_or_not() -> None:
    assert {*entries(benchmark_config())} == {*OTHER_NUMBERS, *SAME_NUMBERS, *ELSEWHERE}


@pytest.mark.parametrize("key", [*OTHER_NUMBERS, *SAME_NUMBERS])
def test_the_key_has_the_entries_that_change_numbers_and_no_others(key: str) -> None:
    config = benchmark_config()
    if key in ("retention", "keep"):
        config = replace(config, ratio=None, retention="0.1")
        config = replace(config, retention=None) if key == "keep" else config
    value = {**OTHER_NUMBERS, **SAME_NUMBERS}[key]
    changed = cell_of(with_entry(config, key, value))
    before = replace(config, ratio=0.889) if key == "keep" else config
    assert (changed.key == cell_of(before).key) == (key in SAME_NUMBERS)


@pytest.mark.parametrize(
    ("entry", "value"),
    [("path", ["elsewhere"]), ("best", 7.0), ("sample", ["other"]), ("sample_best", 2.0)],
)
def test_how_a_card_reads_a_score_is_in_the_key(entry: str, value: Any) -> None:
    config = benchmark_config()
    card = config.task.vlmevalkit
    assert card is not None
    first, *rest = card.metrics
    metrics = [replace(first, **{entry: value}), *rest]
    changed = with_entry(config, "task.vlmevalkit", replace(card, metrics=metrics))
    assert cell_of(changed).key != cell_of(config).key
    blank = with_entry(config, "task.vlmevalkit", replace(card, blank="-"))
    assert cell_of(blank).key != cell_of(config).key


def test_engine_version_and_options_are_in_the_key_and_in_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["model=tiny_llava", "method=divprune", "task=synthvqa", "timing=false"]
    (config,) = compose_cells([*words, "engine=vllm", "budget.scope=item"], sweep=False)
    served = cell_of(config)
    assert served.identity["engine"]["version"] == "0.32.0"
    assert "engine" not in cell_of(replace(config, engine="hf")).identity
    # another version, or another argument of the engine, is another cell
    longer = with_entry(config, "serve.options", {"max_model_len": 8192})
    assert cell_of(longer).key != served.key
    monkeypatch.setattr(engines, "versions", lambda python: {"vllm": "0.32.1"})
    assert cell_of(config).key != served.key


def test_nothing_that_a_key_reaches_is_missing_here_or_elsewhere() -> None:
    """Or no other process could use the digests again, which take seconds, and they would differ
    between machines that have an optional library (peft) and those that have not.
    """
    cards = [*registry.methods().values(), *registry.families().values()]
    roots = [*(f"{card.module}:{card.class_name}" for card in cards), *ENGINE, *FUSED, *SERVED]
    roots += [root for of_one in HARNESSES.values() for root in of_one]
    assert not Code(outside=OUTSIDE).reach(roots).missing
