"""A harness's own model object around a model that is already loaded.

The object's own code builds the prompt, prepares the pictures, decodes and reads the answer; only
where it would load a checkpoint it is given ours. So another version of a harness brings its own
prompts, and nothing of them is written down here. What no installed package has, the code that some
classes want beside them, stands in :mod:`.internvl_chat` and :mod:`.llava_package`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._C import TensorBase
from transformers import PreTrainedModel

from unibench.benchmark import Convention
from unibench.config import GenerationConfig, ModelConfig
from unibench.harness.child.native import source_of
from unibench.inputs import given_processor
from unibench.models import LoadedModel

SAMPLING = ("temperature", "top_p", "top_k", "min_p", "typical_p")


class Standing:
    """Stands in for the model that a harness's object loads; decodes as the object says.

    Args:
        loaded: the model; hooks on it are in force.
        decoding: of the cell; what it sets goes before what the object says.

    Attributes:
        settings: of the last answer, None before the first one.
    """

    def __init__(self, loaded: LoadedModel, decoding: GenerationConfig) -> None:
        self._loaded, self._decoding = loaded, decoding
        self.settings: dict[str, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loaded.model, name)

    def to(self, *_: Any, **__: Any) -> Standing:
        """It stays where it is, in the precision of the cell."""
        return self

    # what classes call on a model they have just loaded
    eval = cuda = cpu = half = tie_weights = to

    def generate(self, *args: Any, **kwargs: Any) -> Tensor:
        """Decode greedily under all other settings of the object, and of the checkpoint where the
        object is silent.
        """
        model, decoding = self._loaded.model, self._decoding
        if decoding.max_new_tokens is not None:
            # the cell's setting is in its key, so it goes before the object's
            kwargs["max_new_tokens"] = decoding.max_new_tokens
        if decoding.repetition_penalty is not None:
            kwargs["repetition_penalty"] = decoding.repetition_penalty
        own = model.generation_config
        # top_k=1 is greedy decoding by another name
        samples = kwargs.get("do_sample", own.do_sample) and kwargs.get("top_k", own.top_k) != 1
        # what is drawn cannot be compared; the best of one is what greedy decoding takes
        kwargs |= {"do_sample": False, **dict.fromkeys(SAMPLING)}
        penalty = kwargs.get("repetition_penalty", own.repetition_penalty)
        self.settings = {
            "max_new_tokens": kwargs.get("max_new_tokens", own.max_new_tokens),
            "do_sample": False,
            "repetition_penalty": 1.0 if penalty is None else penalty,
            **({"sampled_by_the_harness": True} if samples else {}),
        }
        # the model's own conversions are meant as they are
        with patch.multiple(Tensor, to=TensorBase.to, cuda=TensorBase.cuda):  # ends on_device
            answer: Tensor = model.generate(*args, **kwargs)
        return answer


@contextmanager
def on_device(loaded: LoadedModel) -> Iterator[None]:
    """Tensors that a harness sends to "cuda", in half precision, go inside the block to the
    model's device in the model's precision.
    """
    device, precision = loaded.device, loaded.model.dtype

    def ours(value: Any) -> Any:
        # float32 and whole numbers are meant as they are
        if isinstance(value, torch.dtype) and value in (torch.float16, torch.bfloat16):
            return precision
        named = isinstance(value, str) and value.partition(":")[0] == "cuda"
        if named or (isinstance(value, torch.device) and value.type == "cuda"):
            return device
        return value

    def to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        # .to takes device and dtype in either order, or another tensor
        named = {key: ours(value) for key, value in kwargs.items()}
        return TensorBase.to(tensor, *map(ours, args), **named)

    def cuda(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        return TensorBase.to(tensor, device)

    # not a TorchFunctionMode: it would be called for every function of torch in a processor
    with patch.multiple(Tensor, to=to, cuda=cuda):
        yield


class Worded:
    """A processor with the system text and the beginning of the reply that a cell sets. No pictures
    beside a video are no argument: lmms-eval's llava_hf hands over an empty list, of which
    transformers 5.23 reads the first.

    Args:
        processor: of the harness's object.
        convention: whose ``system`` and ``prefix`` are put in place.
    """

    def __init__(self, processor: Any, convention: Convention) -> None:
        self._processor, self._convention = processor, convention

    def __getattr__(self, name: str) -> Any:
        return getattr(self._processor, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if "text" in kwargs:
            kwargs["text"] = self._begun(kwargs["text"])
        else:
            args = tuple(self._begun(value) for value in args)
        if kwargs.get("images") == []:
            del kwargs["images"]
        return self._processor(*args, **kwargs)

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """The template around the conversation with its system text exchanged."""
        system = self._convention.system
        if system is not None:
            several = bool(conversation) and isinstance(conversation[0], list)
            turns = [
                _with_system(one, system) for one in (conversation if several else [conversation])
            ]
            conversation = turns if several else turns[0]
        return self._processor.apply_chat_template(conversation, *args, **kwargs)

    def _begun(self, text: Any) -> Any:
        prefix = self._convention.prefix
        if prefix is None or not isinstance(text, (str, list)):
            return text
        if isinstance(text, str):
            return text + prefix
        return [line + prefix if isinstance(line, str) else line for line in text]


def _with_system(conversation: Sequence[Any], system: str) -> list[Any]:
    """A conversation under another system text; ``none`` for none."""
    turns = [turn for turn in conversation if turn["role"] != "system"]
    if system == "none":
        return turns
    # as parts: templates of a family that takes no bare string would fail on it
    return [{"role": "system", "content": [{"type": "text", "text": system}]}, *turns]


def worded(processor: Any, convention: Convention) -> Any:
    """The processor itself where nothing is put in place."""
    if convention.system is None and convention.prefix is None:
        return processor
    return Worded(processor, convention)


def folder_of(spec: ModelConfig, loaded: LoadedModel, name: str, root: Path) -> Path:
    """A folder that has the hub's name of an entry's checkpoint, by which classes tell variants
    apart, and holds configuration and processor of the loaded model.
    """
    folder = root / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        return folder
    if spec.weights == "pretrained" and not given_processor(spec):
        # a link, since classes read more of a checkpoint than its configuration
        folder.symlink_to(Path(source_of(spec)).absolute(), target_is_directory=True)
        return folder
    folder.mkdir()
    loaded.model.config.save_pretrained(folder)
    loaded.processor.save_pretrained(folder)
    return folder


@contextmanager
def standing_in(standing: Standing) -> Iterator[None]:
    """Whoever loads a checkpoint inside gets the model that is there."""
    # on the base class, which every loader ends at
    with patch.object(PreTrainedModel, "from_pretrained", classmethod(lambda *_, **__: standing)):
        yield
