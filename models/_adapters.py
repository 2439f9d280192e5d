"""LoRA adapters of peft on a checkpoint: what is in their folder is checked, then they are merged
into the weights or run beside them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from unibench.config import ModelConfig, model_path
from unibench.errors import UsageError, shown
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
    wanted = check_adapter(folder, name)
    from peft import PeftModel, get_peft_model_state_dict  # not there in every installation

    try:
        # by itself peft reads a pickle where there are no safetensors, and asks the hub
        adapted = PeftModel.from_pretrained(model, str(folder), local_files_only=True)
    except WRONG_FILES as error:
        raise UsageError(f"{name} does not fit the model: {first_line(error)}") from error
    # what a file lacks peft leaves as it was drawn, with a warning
    own = {key.removeprefix("base_model.model.") for key in get_peft_model_state_dict(adapted)}
    if strange := own ^ {key.removeprefix("base_model.model.") for key in wanted}:
        raise UsageError(
            f"{name} does not fit the model: of {len(wanted)} tensors {len(strange)} are missing or"
            f" have no place, for example {shown(min(strange))}"
        )
    if spec.adapter_mode == "merge":
        adapted = adapted.merge_and_unload(safe_merge=True)
    check_whole(adapted, {}, name)
    return adapted.eval()


def base_of(model: Any) -> Any:
    """The model inside a wrapper of peft, whose adapters lie in its layers and stay at work."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model
