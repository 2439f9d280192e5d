"""What another engine is handed of a method: its golden vectors are what the plugin's pruner keeps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors import safe_open

from unibench.cli import main
from unibench.pruning.layout import read
from unibench.serving.pruner import Encoded, Pruner
from unibench.serving.settings import Settings


@pytest.mark.parametrize(
    ("method", "parameters"),
    [("divprune", {}), ("cdpruner", {"relevance": "embedding"})],
)
def test_golden_vectors_are_reproduced_from_features_and_question_alone(
    method: str, parameters: dict[str, str], tmp_path: Path
) -> None:
    words = [f"method.{key}={value}" for key, value in parameters.items()]
    given = [f"method={method}", "model=tiny_qwen2_5_vl", "ratio=0.667", f"out={tmp_path}"]
    assert main(["export-method", *given, *words]) == 0
    card = json.loads((tmp_path / "method.json").read_text())
    assert card["servable"] and card["flags"]["reads the question"] == (method == "cdpruner")
    assert card["count"]["examples"]["144"] == 48
    pruner = Pruner(Settings(method, ratio="0.667", parameters=parameters))
    with safe_open(tmp_path / "golden.safetensors", "pt") as file:
        cases = json.loads(file.metadata()["cases"])
        assert len(cases) >= 8
        for number, case in enumerate(cases):
            features = file.get_tensor(f"{number}.features")
            question = file.get_tensor(f"{number}.question")
            (item,) = read(case["layout"])
            asked = question if len(question) else None
            encoded = Encoded(features, features.shape[1], item.parts, asked)
            _, places = pruner(encoded)
            assert places.tolist() == file.get_tensor(f"{number}.kept").tolist()
            assert len(places) == case["keep"]
    answers = json.loads((tmp_path / "parity.json").read_text())["answers"]
    assert len(answers) == 8 and all(one["kept"] for one in answers)


def test_a_method_inside_the_decoder_has_a_card_and_no_vectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["method=fastv", "model=tiny_qwen2_5_vl", "ratio=0.667", f"out={tmp_path}"]
    assert main(["export-method", *words]) == 2
    assert "does not cut once before the language model" in capsys.readouterr().err
    card = json.loads((tmp_path / "method.json").read_text())
    assert card["flags"]["cuts inside the language model"] and not card["servable"]
