"""One vision-tower pass for all cells that see the same pictures.

What is kept is the whole output of the tower for one call, under a hash of everything the call was
given: the pixels as the processor made them, and their sizes. The folder on disk is named by model,
weights, dtype, kernel, pixel preset, device and library versions. So a remembered output is, bit
for bit, what the tower would compute again. Methods that look inside the tower or merge there
always run it themselves (:class:`unibench.pruning.vision.VisionRecorder` sees to that).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from unibench.pruning.family import VisionCall
from unibench.store.files import disk_errors, replace

log = logging.getLogger(__name__)
Stored = dict[str, Tensor]  # "field" or "field.3"
# outputs of towers as transformers names them: no other class is looked up by a file's word
KINDS = (
    "transformers.modeling_outputs:BaseModelOutputWithPooling",
    "transformers.models.internvl.modeling_internvl:InternVLVisionModelOutputWithPooling",
    "transformers.models.qwen3_vl.modeling_qwen3_vl:BaseModelOutputWithDeepstackFeatures",
)
INNER = ("hidden_states", "attentions")  # of every block; nobody behind the tower reads them


class FeatureCache:
    """Remembers the features of one loaded model.

    Args:
        device: of the model.
        mib: most memory; what does not fit any more is not kept, since cells read their samples in
            the same order and dropping the oldest would drop what comes next.
        folder: also keeps them on disk, for other processes; None does not.

    Attributes:
        computed, remembered: calls so far.
    """

    def __init__(self, device: torch.device, mib: int, folder: Path | None) -> None:
        self._device, self._room, self._folder = device, mib * 2**20, folder
        self._kept: dict[str, tuple[type[Any], Stored]] = {}
        self.computed = self.remembered = 0

    def __call__(self, compute: Callable[[], Any], call: VisionCall) -> Any:
        """The output of a call of ``get_image_features`` or ``get_video_features``."""
        key = digest_of(call)
        # by content and not by the sample's name: the same picture may come with another preset
        found = self._kept.get(key) or self._read(key)
        if found is not None:
            self.remembered += 1
            # what came from disk is worth keeping in memory as well
            self._keep(key, *found)
            return _joined(*found)
        self.computed += 1
        output = compute()
        parts = _parts(output)
        self._keep(key, type(output), parts)
        self._write(key, type(output), parts)
        return output

    def _keep(self, key: str, kind: type[Any], parts: Stored) -> None:
        size = sum(part.nbytes for part in parts.values())
        if key not in self._kept and size <= self._room:
            self._room -= size
            self._kept[key] = (kind, parts)

    def _read(self, key: str) -> tuple[type[Any], Stored] | None:
        if self._folder is None or not os.path.lexists(file := self._folder / f"{key}.safetensors"):
            return None
        try:
            if not stat.S_ISREG(file.lstat().st_mode):  # to open a pipe would wait for a writer
                raise ValueError("no plain file")
            with safe_open(file, framework="pt", device=str(self._device)) as stored:  # type: ignore[no-untyped-call]
                # raises ValueError for any other: a file must not choose what is imported
                kind = KINDS[KINDS.index(stored.metadata()["kind"])]
                module, _, name = kind.partition(":")
                return getattr(importlib.import_module(module), name), {
                    key: stored.get_tensor(key)
                    for key in stored.keys()  # noqa: SIM118
                }
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            log.warning("%s is damaged and computed again", file)
            return None

    def _write(self, key: str, kind: type[Any], parts: Stored) -> None:
        name = f"{kind.__module__}:{kind.__qualname__}"
        if self._folder is not None and name in KINDS:
            kept = {
                field: part.clone(memory_format=torch.contiguous_format)
                for field, part in parts.items()
            }  # views may not be saved
            content = save(kept, {"kind": name})
            with disk_errors(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
                replace(self._folder / f"{key}.safetensors", content)


def digest_of(call: VisionCall) -> str:
    """Hash of all that a call was given."""
    digest = hashlib.blake2b(call.modality.encode(), digest_size=16)
    _update(digest, call.arguments)
    return digest.hexdigest()


def _update(digest: Any, value: Any) -> None:
    if isinstance(value, Tensor):
        # bytes alone are the same for two shapes or dtypes
        digest.update(f"{value.dtype}{tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    elif isinstance(value, dict):
        # the order of keyword arguments is the caller's affair
        for key, entry in sorted(value.items()):
            digest.update(f"{key}=".encode())
            _update(digest, entry)
    elif isinstance(value, (list, tuple)):
        digest.update(f"[{len(value)}]".encode())
        for entry in value:
            _update(digest, entry)
    else:
        digest.update(json.dumps(value, default=repr).encode())


def _parts(output: Any) -> Stored:
    """The tensors of a model output, those in lists under numbers, without what only looks into the
    tower.
    """
    parts: Stored = {}
    for field, value in output.items():
        if isinstance(value, Tensor):
            parts[field] = value
        # of every block they would take many times the features themselves
        elif field not in INNER:
            parts.update({f"{field}.{number}": entry for number, entry in enumerate(value)})
    return parts


def _joined(kind: type[Any], parts: Stored) -> Any:
    """A fresh output with the tensors of :func:`_parts`; its lists may be changed, its tensors are
    shared.
    """
    fields: dict[str, Any] = {}
    for name, part in parts.items():
        field, _, number = name.partition(".")
        if number:
            fields.setdefault(field, {})[int(number)] = part
        else:
            fields[field] = part
    ordered = {
        # safetensors lists names in an order of its own
        name: tuple(value[i] for i in sorted(value)) if isinstance(value, dict) else value
        for name, value in fields.items()
    }
    return kind(**ordered)
