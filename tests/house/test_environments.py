"""Every environment that something of unibench runs in has what unibench imports there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text())["project"]
# vLLM asks for them itself, at versions of its own
OF_VLLM = {
    *("torch", "torchvision", "numpy", "pillow", "safetensors", "tokenizers"),
    *("huggingface-hub", "pyyaml"),
}
# torch and transformers bring the others along
BROUGHT = {"numpy", "safetensors", "tokenizers", "huggingface-hub", "markupsafe"}


def names(lines: list[str]) -> set[str]:
    """Distributions of requirements, without versions and remarks."""
    bare = (line.partition("#")[0].strip() for line in lines)
    return {re.split(r"[<>=!~\[ ]", line)[0].lower().replace("_", "-") for line in bare if line}


def pinned(name: str) -> set[str]:
    return names((TOP / "requirements" / name).read_text().splitlines())


def light() -> set[str]:
    return names(PROJECT["dependencies"])


def test_the_pinned_set_has_every_dependency() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = light() | names(extras["bench"]) | names(extras["report"])
    assert wanted - {"unibench-pruning", "huggingface-hub"} <= pinned("core.txt")


def test_the_serving_environment_has_what_an_engine_and_its_bench_import() -> None:
    bench = names(PROJECT["optional-dependencies"]["bench"])
    assert light() | bench <= pinned("serve.txt") | OF_VLLM


def test_a_machine_with_a_gpu_is_told_of_every_package() -> None:
    (line,) = [
        line
        for line in (TOP / "docs" / "gpu.md").read_text().splitlines()
        if line.strip().startswith("pip install")
    ]
    told = names(line.split()[2:])
    assert light() - BROUGHT <= told
