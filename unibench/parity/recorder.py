"""Writes what your code keeps and answers, for the verb import-run of unibench. Paste it in."""

import json
from typing import Any


class Recorder:
    """One line a sample; ``layer`` is the decoder layer whose input is cut."""

    def __init__(self, path: str, layer: int = 0) -> None:
        self.file, self.layer = open(path, "w", encoding="utf-8"), layer  # noqa: SIM115
        self.line: dict[str, Any] = {}

    def sample(self, name: str) -> None:
        """Before the model reads a sample: its id, as in samples.jsonl of unibench's cell."""
        self.line = {"id": name, "layer": self.layer}

    def kept(self, index: Any, visual_tokens: int) -> None:
        """Where tokens are dropped: indices, or a mask, among the visual tokens of the prompt."""
        index = index.tolist() if hasattr(index, "tolist") else list(index)
        if index and isinstance(index[0], bool):
            index = [place for place, stays in enumerate(index) if stays]
        self.line.update(kept=sorted(index), visual_tokens=int(visual_tokens))

    def answer(self, text: str, score: float | None = None) -> None:
        """Behind generate: the answer, and the score where a benchmark of a harness gives it."""
        line = self.line if score is None else {**self.line, "score": score}
        self.file.write(json.dumps({**line, "answer": text}) + "\n")
        self.file.flush()
