"""LoRA adapters of peft on a checkpoint: what is in their folder is checked, then they are merged
into the weights or run beside them.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from unibench.config import ModelConfig, model_path
from unibench.errors import UsageError
from unibench.models._checkpoint import WRONG_FILES, check_adapter, check_whole, first_line


def with_adapter(model: Any, spec: ModelConfig) -> Any:
    """The model with the adapter that a configuration names; the model itself without one.

    Args:
        model: loaded, with the weights that the adapter was trained on.
        spec: see :class:`unibench.config.ModelConfig`.

    Raises:
        UsageError: peft is not there, the folder holds no whole LoRA adapter, or it is of another
            model.
    """
    folder = model_path(spec.adapter)
    if folder is None:
        return model
    name = f"model.adapter={spec.adapter}"
    if find_spec("peft") is None:
        raise UsageError(f"{name} needs the package peft: pip install peft")
    weights = check_adapter(folder, name)
    from peft import PeftModel, get_peft_model_state_dict  # not there in every installation

    try:
        # by itself peft reads a pickle where there are no safetensors, and asks the hub
        adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except WRONG_FILES as error:
        raise UsageError(f"{name} does not fit the model: {first_line(error)}") from error
    # peft would ask the hub whether the base model's embeddings have been made longer
    held = _digests(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    given = _digests(load_file(weights))
    # what a file lacks peft leaves as it was drawn, and what has no place it passes over; names say
    # little, since those of older releases of transformers are renamed
    if given != held:
        raise UsageError(
            f"{name} does not fit the model: {(held - given).total()} of the"
            f" {held.total()} tensors that it needs are not in {weights.name}, and"
            f" {(given - held).total()} of those there have no place"
        )
    if spec.adapter_mode == "merge":
        adapted = adapted.merge_and_unload(safe_merge=True)
    check_whole(adapted, {}, name)
    return adapted.eval()


def _digests(tensors: Mapping[str, Tensor]) -> Counter[bytes]:
    """Digests of some tensors, in the precision in which peft holds adapters."""
    return Counter(
        hashlib.blake2b(tensor.detach().cpu().float().contiguous().numpy().tobytes()).digest()
        for tensor in tensors.values()
    )


def base_of(model: Any) -> Any:
    """The model inside a wrapper of peft, whose adapters lie in its layers and stay at work."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
