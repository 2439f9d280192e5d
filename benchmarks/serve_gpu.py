"""A served model at the size of 7B with random weights: parity in bfloat16, and one load curve.

.venv-serve/bin/python -m benchmarks.serve_gpu          # vLLM for CUDA, below 8 minutes
.venv-serve/bin/python -m benchmarks.serve_gpu --dry    # the same code on a CPU, a toy

Parity needs equal weights on both sides: a decoder of full width and few layers is drawn, written
and read by both. The load is that of all layers, whose weights vLLM draws itself.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from unibench.compose import compose_cells
from unibench.models._sources import blueprint
from unibench.serving import bench, parity
from unibench.serving.checkpoints import made
from unibench.serving.engine import Engine, Request, environment, traced
from unibench.serving.fields import digest
from unibench.serving.settings import Settings

MODEL, LAYERS, QUESTIONS = "qwen2_5_vl_7b", 4, 16
DEADLINE = 460.0  # seconds of the whole, servers included
SETTINGS = Settings("divprune", ratio="0.889")


def checkpoint(target: Path, layers: int | None) -> Path:
    """A checkpoint of the published shape; with ``layers``, so many of its decoder and weights that
    are drawn, else a configuration alone.
    """
    from transformers import AutoModelForImageTextToText

    words = [f"model={MODEL}", "model.weights=random"]
    config, processor = blueprint(compose_cells(words, sweep=False)[0].model)
    if layers is not None:
        config.get_text_config().num_hidden_layers = layers
        if getattr(config.get_text_config(), "layer_types", None):
            config.get_text_config().layer_types = config.get_text_config().layer_types[:layers]
    config.architectures = ["Qwen2_5_VLForConditionalGeneration"]
    config.dtype = "bfloat16"
    config.save_pretrained(target)
    processor.save_pretrained(target)
    if layers is not None:
        torch.manual_seed(0)
        with torch.device("cuda"):
            model = AutoModelForImageTextToText.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(target)
        del model
        torch.cuda.empty_cache()
    return target


def parity_of(folder: Path, dtype: str, root: Path, dry: bool) -> dict[str, Any]:
    """Kept sets, first log probabilities and answers of both sides."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    import unibench

    asked = parity.cases(4 if dry else QUESTIONS, "plain")
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=getattr(torch, dtype))
    model = model.eval().to("cpu" if dry else "cuda")
    wanted = []
    with unibench.prune(
        model, SETTINGS.method, processor=processor, ratio=SETTINGS.ratio, scope="item"
    ) as session:
        for case in asked:
            session.samples = [""]
            wanted.append(parity.generated(model, processor, session, case))
    del model
    if not dry:
        torch.cuda.empty_cache()
    trace = root / "pictures.jsonl"
    settings = Settings(**{**asdict(SETTINGS), "trace": str(trace)})
    options: dict[str, Any] = {"dtype": dtype, "max_model_len": 1024 if dry else 4096}
    options |= {"enforce_eager": True, "limit_mm_per_prompt": {"image": 1, "video": 0}}
    options |= {} if not dry else {"block_size": 32, "max_num_seqs": 4}
    engine = Engine(folder, settings, **options)
    requests = [Request(parity.prompt_of(processor, case), case.images) for case in asked]
    replies = engine.ask(requests, parity.NEW_TOKENS, top=parity.TOP)
    engine.close()
    kept = {one.picture: one.kept for one in traced(trace)}
    overlaps, apart, equal = list[float](), list[float](), 0
    for case, one, reply in zip(asked, wanted, replies, strict=True):
        ours, theirs = set(one.kept[0]), set(kept[f"{digest(case.images[0]):016x}"])
        overlaps.append(len(ours & theirs) / len(ours))
        common = set(one.first) & set(reply.first)
        apart += [abs(one.first[token] - reply.first[token]) for token in common]
        equal += one.tokens == reply.tokens
    return {
        "prompts": len(asked),
        "equal kept sets": sum(one == 1.0 for one in overlaps),
        "smallest share of common tokens": min(overlaps),
        "largest difference of first log probabilities": max(apart),
        "equal answers": equal,
    }


def load_of(folder: Path, dry: bool, out: Path, left: float) -> list[bench.Line]:
    """One curve: vanilla and the method, closed loops of growing width."""
    if dry:
        widths, requests, rounds, side = (1, 2), 3, 1, None
        server = ["--dtype", "float32", "--enforce-eager", "--max-num-seqs", "4"]
        server += ["--max-model-len", "1024", "--block-size", "32"]
    else:
        widths, requests, rounds, side = (1, 8, 32), 32, 1, 1008
        # two servers share one GPU
        server = ["--load-format", "dummy", "--dtype", "bfloat16", "--max-model-len", "8192"]
        server += ["--gpu-memory-utilization", "0.4"]
    server += ["--limit-mm-per-prompt", '{"image": 1, "video": 0}']
    given = bench.Bench(
        bench.contenders([SETTINGS.method], [str(SETTINGS.ratio)], resize=True),
        [bench.Load("closed", width) for width in widths],
        requests=requests,
        rounds=rounds,
        side=side,
    )
    return bench.measured(given, sys.executable, folder, out, server, wait=left)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and write what was seen."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_gpu")
    parser.add_argument("--dry", action="store_true", help="a toy on a CPU: nothing is measured")
    parser.add_argument("--out", type=Path, default=Path("outputs/serving/gpu"))
    given = parser.parse_args(arguments)
    if not given.dry and not torch.cuda.is_available():
        parser.error("no CUDA device here; --dry tries the code on a CPU")
    environment({"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_CPU_KVCACHE_SPACE": "1"})
    start, out = time.monotonic(), given.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        small = made("qwen2_5_vl", root) if given.dry else checkpoint(root / "small", LAYERS)
        dtype = "float32" if given.dry else "bfloat16"
        found = parity_of(small, dtype, root, given.dry)
        print(json.dumps(found, indent=1), flush=True)
        whole = small if given.dry else checkpoint(root / "whole", None)
        left = 3600.0 if given.dry else DEADLINE - (time.monotonic() - start)
        lines = load_of(whole, given.dry, out, left)
    for row in bench.summary(lines):
        print(row)
    device = "a CPU (dry run: a toy)" if given.dry else torch.cuda.get_device_name()
    seconds = time.monotonic() - start
    plain = {"device": device, "seconds": seconds, "parity": found}
    plain["load"] = [asdict(line) for line in lines]
    (out / "serve_gpu.json").write_text(json.dumps(plain, indent=1), encoding="utf-8")
    print(f"{seconds:.0f} s; {out}/serve_gpu.json")


if __name__ == "__main__":
    main()
