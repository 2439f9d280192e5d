"""Checks that a checkpoint is whole and runs no code of others, before anything is answered.

transformers makes up weights that a checkpoint lacks, passes over an adapter beside them, and lets
a configuration name attention kernels of a hub, which are code. Each of these gave scores.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, BinaryIO

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch import nn

from unibench.errors import UsageError, shown
from unibench.pruning._transformers import adopt_renamings

# what a wrong value in a file of others leads to, inside transformers
WRONG_FILES = (
    OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RuntimeError,
    AssertionError, EOFError, UnpicklingError, SafetensorError, StrictDataclassError,
)  # fmt: skip
MIB = 1 << 20
# published ones take some kilobytes; json builds many times the size of a file in memory
LARGEST = 64 * MIB  # of a configuration, and of the header of a file of weights
POINTER = 1024  # bytes of a file that only says where its content lies, at most
POINTERS = {
    b"version https://git-lfs": "a pointer of git-lfs; `git lfs pull` gets the file itself",
    b"/annex/objects/": "a pointer of git-annex; `git annex get` gets the file itself",
}
CONFIGURATIONS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json", "tokenizer_config.json", "special_tokens_map.json",
)  # fmt: skip
KERNEL = re.compile(r"_?(attn|experts)_implementation(_internal)?")
ADAPTERS = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
NAMED = 4  # tensors of a message


def check_files(folder: Path, name: str) -> None:
    """Refuse a folder whose files are not those of a whole checkpoint.

    Args:
        folder: of the checkpoint; files that are not there are left to transformers.
        name: of the checkpoint, for messages.

    Raises:
        UsageError: which file, and what is wrong with it.
    """
    for file in sorted(folder.glob("*")):
        if file.is_file() and file.stat().st_size <= POINTER:
            _refuse_pointer(file, name)
    # before anything is built, since transformers fetches a kernel that a file names
    for configuration in CONFIGURATIONS:
        if (folder / configuration).is_file():
            _refuse_kernels(_mapping(folder / configuration, name), folder / configuration, name)
    for adapter in ADAPTERS:
        if (folder / adapter).is_file():
            raise UsageError(
                f"{name}: {folder} holds an adapter beside the weights ({adapter}), which is not"
                " applied: keep it in a folder of its own and give model.adapter=<folder>, or take"
                " it out of the folder to measure the weights without it"
            )
    for index in sorted(folder.glob("*.index.json")):
        _check_index(index, name)
    for file in sorted(folder.glob("*.safetensors")):
        _check_safetensors(file, name)
    for file in sorted(folder.glob("pytorch_model*.bin")):
        _check_pickle(file, name)


def check_adapter(folder: Path, name: str) -> Path:
    """Refuse a folder that holds no whole LoRA adapter.

    Args:
        folder: of the adapter.
        name: of the adapter, for messages.

    Returns:
        The file of its tensors.

    Raises:
        UsageError: which file, and what is wrong with it.
    """
    settings, weights = folder / "adapter_config.json", folder / "adapter_model.safetensors"
    for file in (settings, weights):
        if not file.is_file():
            raise UsageError(
                f"{name}: there is no {file.name} in {folder}; give the folder that peft's"
                " save_pretrained wrote, in safetensors"
            )
        if file.stat().st_size <= POINTER:
            _refuse_pointer(file, name)
    kind = _mapping(settings, name).get("peft_type")
    if kind != "LORA":
        raise UsageError(f"{name}: {settings} is of kind {shown(kind)}; LORA is the one known here")
    _safetensors_header(weights, name)
    return weights


def check_whole(model: nn.Module, info: Mapping[str, Any], name: str) -> None:
    """Refuse a model some of whose weights are made up, or are no numbers.

    Args:
        model: loaded.
        info: what transformers says of the loading; tied weights are not among the missing ones.
        name: of the checkpoint, for messages.

    Raises:
        UsageError: which tensors.
    """
    missing = sorted(map(str, info.get("missing_keys", ())))
    if missing:
        raise UsageError(
            f"{name} lacks {_counted(missing)}; without them the model would answer with made-up"
            " weights. Download or convert the checkpoint again"
        )
    shapes = sorted(str(entry[0]) for entry in info.get("mismatched_keys", ()))
    if shapes:
        raise UsageError(f"{name} has other shapes than its config.json says: {_counted(shapes)}")
    wrong = [key for key, tensor in _tensors(model) if not _is_finite(tensor)]
    if wrong:
        raise UsageError(
            f"{name} holds numbers that are infinite or none (NaN) in {_counted(wrong)}, in the"
            f" precision {next(model.parameters()).dtype}; no answer of it means anything"
        )


def load_whole(loader: Any, source: str, name: str, **options: Any) -> Any:
    """A model of transformers with all of its weights, of which none is made up.

    Args:
        loader: class whose ``from_pretrained`` opens it.
        source: folder or hub id.
        name: of the checkpoint, for messages.
        **options: of ``from_pretrained``.

    Raises:
        UsageError: the checkpoint is not whole.
    """
    if Path(source).is_dir():
        check_files(Path(source), name)
    model, info = loader.from_pretrained(source, output_loading_info=True, **options)
    # a class of the checkpoint's own code may lack only the renamings of its parent
    if info.get("missing_keys") and adopt_renamings(type(model)):
        model, info = loader.from_pretrained(source, output_loading_info=True, **options)
    check_whole(model, info, name)
    return model


def first_line(error: BaseException) -> str:
    """What an error says, for a message of one line."""
    return shown((str(error).strip() or type(error).__name__).splitlines()[0])


def _refuse_pointer(file: Path, name: str) -> None:
    content = file.read_bytes()
    for start, what in POINTERS.items():
        if content.startswith(start):
            raise UsageError(f"{name}: {file} is {what}")


def _mapping(file: Path, name: str) -> dict[str, Any]:
    """What a configuration of a checkpoint holds.

    Raises:
        UsageError: it is no JSON object.
    """
    if file.stat().st_size > LARGEST:
        raise UsageError(f"{name}: {file} has more than {LARGEST // MIB} MiB; no configuration has")
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{name}: {file} cannot be read as JSON: {shown(error)}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{name}: {file} is no JSON object")
    return value


def _refuse_kernels(configuration: Mapping[str, Any], file: Path, name: str) -> None:
    """Refuse code of a hub that a checkpoint's own files ask for."""
    for key, value in _entries(configuration):
        names = value.values() if isinstance(value, dict) else [value]
        # kernels may be named for each part of the model, as a mapping
        foreign = [text for text in names if text is not None and not _is_kernel(text)]
        if KERNEL.fullmatch(key) and foreign:
            raise UsageError(
                f"{name}: {file} has {key}={shown(foreign[0])!r}, a kernel of others, whose code"
                " would run here; nothing but the command line chooses kernels (model.attn=...)."
                " Take the entry out of the file"
            )
        if key in ("use_kernels", "kernel_config") and value:
            raise UsageError(
                f"{name}: {file} has {key}, which would run kernels of a hub; take the entry out of"
                " the file"
            )


def _is_kernel(value: Any) -> bool:
    """Whether a value may name an attention that transformers has itself; names of a hub have a
    slash.
    """
    return isinstance(value, str) and value.isidentifier()


def _entries(value: Any) -> Iterator[tuple[str, Any]]:
    """Every entry of a configuration and of those inside it."""
    if isinstance(value, dict):
        yield from value.items()
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, (dict, list)):
            yield from _entries(inner)


def _check_index(index: Path, name: str) -> None:
    files = _mapping(index, name).get("weight_map")
    if not isinstance(files, dict) or not files:
        raise UsageError(f"{name}: {index} has no weight_map of tensors")
    for file in {str(file): None for file in files.values()}:
        # transformers joins this name to the folder and opens what it finds there
        if file in (".", "..") or re.search(r"[/\\\0]", file):
            raise UsageError(
                f"{name}: {index} names {shown(file)!r}, which lies outside of the checkpoint"
            )
        if not (index.parent / file).is_file():
            raise UsageError(f"{name}: {index} names {shown(file)!r}, which is not there")


def _check_safetensors(file: Path, name: str) -> None:
    tensors = _safetensors_header(file, name)
    adapters = [key for key in tensors if re.search(r"\.lora_[AB]\b", key)]
    if adapters:
        raise UsageError(
            f"{name}: {file} holds tensors of an adapter ({_counted(adapters)}); an adapter is"
            " given beside its base model, model.adapter=<folder>, or merged into it (peft:"
            " merge_and_unload)"
        )


def _safetensors_header(file: Path, name: str) -> dict[str, Any]:
    """The table of a whole file of tensors.

    Raises:
        UsageError: it is damaged, or cut off.
    """
    size = file.stat().st_size
    with file.open("rb") as stream:
        # format of safetensors: 8 bytes of length, a JSON table, then the tensors without a gap
        length = int.from_bytes(stream.read(8), "little")
        header = _header(stream, length) if 0 < length <= min(LARGEST, size - 8) else None
    if header is None:
        raise UsageError(f"{name}: {file} is no safetensors file, or its beginning is damaged")
    tensors = {key: entry for key, entry in header.items() if key != "__metadata__"}
    try:
        ends = [int(entry["data_offsets"][1]) for entry in tensors.values()]
    except (KeyError, TypeError, IndexError, ValueError):
        raise UsageError(f"{name}: {file} has a damaged table of tensors") from None
    wanted = 8 + length + max(ends, default=0)
    if size != wanted:
        raise UsageError(
            f"{name}: {file} has {size} bytes, and its tensors take {wanted}: it was cut off or"
            " damaged on its way; download or copy it again"
        )
    return header


def _header(stream: BinaryIO, length: int) -> dict[str, Any] | None:
    """The table of tensors of a safetensors file; None if it has none."""
    try:
        header = json.loads(stream.read(length))
    except (ValueError, RecursionError):
        return None
    return header if isinstance(header, dict) else None


def _check_pickle(file: Path, name: str) -> None:
    """Of weights in torch's own format: its table stands at the end."""
    with file.open("rb") as stream:
        start = stream.read(2)
        # torch writes a zip, whose end record may have up to 64 KiB of comment behind it
        stream.seek(-min(file.stat().st_size, 1 << 16), 2)
        end = stream.read()
    if start == b"PK" and b"PK\x05\x06" not in end:
        raise UsageError(f"{name}: {file} was cut off; download or copy it again")


def _tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@torch.no_grad()
def _is_finite(tensor: torch.Tensor) -> bool:
    """In one pass and without a copy: the least and the largest number of a tensor with NaN are
    NaN. Weights of another device's kind, such as quantized ones, have no such numbers.
    """
    # accelerate keeps offloaded weights as meta tensors
    if not tensor.is_floating_point() or tensor.is_meta or tensor.numel() == 0:
        return True
    if tensor.element_size() == 1:  # float8, which has no minimum
        return bool(tensor.float().isfinite().all())
    return all(bool(edge.isfinite()) for edge in tensor.aminmax())


def _counted(names: list[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    noun = "tensor" if len(names) == 1 else "tensors"
    return f"{len(names)} {noun} ({', '.join(map(shown, names[:NAMED]))}{more})"
