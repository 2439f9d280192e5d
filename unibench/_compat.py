"""One repair of the environment: torchvision wheels whose compiled part does not match the
installed torch.

Next to a CPU build of torch from elsewhere, the index's torchvision cannot load its compiled part,
and then ``import torchvision`` raises because two operators have no schema. Everything that imports
it (transformers' image processors, both harnesses) fails with it, although none needs the
operators. Declaring the two schemas is enough. Where the compiled part loads, nothing is done.
:mod:`unibench._startup` does it for programs that import transformers before unibench.
"""

from __future__ import annotations

from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path

import torch


@cache
def repair_torchvision() -> torch.library.Library | None:
    """Declare torchvision's two operators if its compiled part cannot; call it before anything
    imports torchvision.

    Returns:
        The library that holds the declarations (kept alive by the cache), or None if none were
        needed.
    """
    # on the path alone: the finder of _startup would come back here in the middle of it
    spec = PathFinder.find_spec("torchvision")
    if spec is None or spec.origin is None or _loads(Path(spec.origin).parent):
        return None
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def _loads(package: Path) -> bool:
    for file in package.glob("_C*.so"):
        try:
            torch.ops.load_library(str(file))
        except OSError:
            continue
        return True
    return False
