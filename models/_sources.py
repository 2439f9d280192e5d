"""Where a model comes from: the hub, a folder, or its architecture with random weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    BitsAndBytesConfig,
)
from transformers.utils.import_utils import is_bitsandbytes_available

from unibench import hub
from unibench.config import ModelConfig, model_path
from unibench.device import AUTO, device_type
from unibench.errors import UsageError
from unibench.identity import model_digest
from unibench.inputs import pinned_processor
from unibench.models._checkpoint import (
    WRONG_FILES,
    check_files,
    check_whole,
    first_line,
    load_whole,
)
from unibench.models._llava_video import is_published, open_published
from unibench.models._processors import FORMS, make_processor
from unibench.models._template import check_template

TINY = "pkg://unibench.models/tiny"
LENDER = "qwen2_5_vl"  # its tokenizer serves families without a tiny model


def pretrained(spec: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any, str]:
    """A checkpoint with its processor, whose image settings are those that ``spec`` pins for it.

    Returns:
        Model, processor, and the digest of the weights.

    Raises:
        UsageError: the checkpoint cannot be had, is damaged, or brings code that may not run.
    """
    path = _folder(spec)
    source = str(path) if path is not None else spec.checkpoint
    if source is None:
        raise UsageError(
            f"model={spec.name} names neither a checkpoint nor a path; give model.path=<folder>"
        )
    where: dict[str, Any] = {"trust_remote_code": spec.trust_remote_code}
    if path is None:
        # the commit that the key names, whatever the branch points to by now
        revision = hub.commit_of(source, spec.revision) or spec.revision
        where |= {"revision": revision, "local_files_only": not hub.answers()}
    name = f"model.path={spec.path}" if path is not None else f"model={spec.name} ({source})"
    # quantised weights are made on their device, and do not move
    at = {"": device_of(spec)} if spec.quantization is not None else None
    more = {"device_map": spec.device_map or at, **_quantization(spec), **where}
    try:
        if path is not None:
            check_files(path, name)
            if is_published(path):
                if spec.processor_path is not None:
                    raise UsageError(
                        f"model.processor_path={spec.processor_path}: a LLaVA-Video checkpoint has"
                        " image settings in its config.json and takes no other processor"
                    )
                model, processor = open_published(path, spec.processor, options)
                check_whole(model, {}, name)
                return model, processor, model_digest(vars(spec))
        config = AutoConfig.from_pretrained(source, **where)
        cached = hub.config_file(spec) if path is None else None
        if cached is not None:  # what of it is on this disk by now
            check_files(cached.parent, name)
        processor = AutoProcessor.from_pretrained(**_processor_source(spec, source, where))
        model = load_whole(_auto_class(config), source, name, **more, **options)
    except (UsageError, MemoryError, torch.OutOfMemoryError):
        raise
    except ImportError as error:
        raise UsageError(_how_to_install(spec, error)) from None
    except Exception as error:
        # the tokenizers' own errors have no type but Exception
        if type(error) is not Exception and not isinstance(error, WRONG_FILES):
            raise
        raise UsageError(_how_to_get(spec, error)) from error
    check_template(processor, f"the chat template of {name}")
    for key, value in pinned_processor(spec).items():
        # the file beside a checkpoint may change, and with it what the model sees
        setattr(processor.image_processor, key, dict(value) if isinstance(value, dict) else value)
    return model, processor, model_digest(vars(spec))


def processor_of(spec: ModelConfig) -> Any:
    """The processor alone, of a model that is not loaded; None where it takes more to know it.

    What is wrong with the files is told when the model is loaded.
    """
    if spec.weights == "random":
        return blueprint(spec)[1]
    path = _folder(spec)
    source, where = str(path or spec.checkpoint), dict[str, Any](local_files_only=True)
    if path is None:
        where["revision"] = hub.commit_of(source, spec.revision) or spec.revision
    try:
        if path is not None:
            check_files(path, f"model.path={spec.path}")
        where["trust_remote_code"] = spec.trust_remote_code
        return AutoProcessor.from_pretrained(**_processor_source(spec, source, where))
    except Exception:  # see above
        return None


def _processor_source(spec: ModelConfig, source: str, where: dict[str, Any]) -> dict[str, Any]:
    """Where tokenizer and image processor are read from, as arguments of ``from_pretrained``.

    Args:
        spec: of the model.
        source: folder or hub id of the checkpoint.
        where: how that is read.
    """
    if spec.processor_path is None:
        return {"pretrained_model_name_or_path": source, **where}
    own = {"trust_remote_code": spec.trust_remote_code}
    place = model_path(spec.processor_path)
    if place is not None and place.is_dir():
        check_files(place, f"model.processor_path={spec.processor_path}")
        return {"pretrained_model_name_or_path": str(place), "local_files_only": True, **own}
    return {
        "pretrained_model_name_or_path": spec.processor_path,
        # the commit that the key names
        "revision": hub.commit_of(spec.processor_path, None) or hub.MAIN,
        "local_files_only": not hub.answers(),
        **own,
    }


def random(spec: ModelConfig, options: dict[str, Any]) -> tuple[Any, Any, str]:
    """The architecture of ``spec`` with random weights; a tiny model lends its tokenizer.

    Returns:
        Model, processor, and the digest that stands for the weights.

    Raises:
        UsageError: there is no architecture to build, or its weights exceed the free memory.
    """
    if spec.quantization is not None:
        raise UsageError(
            "model.quantization needs a checkpoint: random weights have nothing to quantise; take"
            " model.weights=pretrained"
        )
    config, processor = blueprint(spec)
    _refuse_too_large(spec, config, options)
    # the digest of random weights names no draw, so there is one only
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, **options)
    model.generation_config.eos_token_id = processor.tokenizer.eos_token_id
    model.generation_config.pad_token_id = processor.tokenizer.pad_token_id
    return model, processor, model_digest(vars(spec))


def _refuse_too_large(spec: ModelConfig, config: Any, options: dict[str, Any]) -> None:
    """Say so before the system kills a process whose weights do not fit in memory."""
    with torch.device("meta"):
        # a copy, since from_config writes the dtype and the kernel into it
        skeleton = AutoModelForImageTextToText.from_config(copy.deepcopy(config), **options)
    needed, free = sum(parameter.nbytes for parameter in skeleton.parameters()), free_memory()
    if free is not None and needed > free:
        raise UsageError(
            f"model={spec.name}: its weights take {needed / 2**30:.1f} GiB in {spec.dtype} and"
            f" {free / 2**30:.1f} GiB of memory are free; for fewer layers of the same width:"
            " model.architecture.text_config.num_hidden_layers=4"
        )


def free_memory() -> int | None:
    """Bytes that processes on this machine can still take; None where the system does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    # MemAvailable counts page cache that can be dropped, which MemFree does not
    return next(
        (1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None
    )


def blueprint(spec: ModelConfig) -> tuple[Any, Any]:
    """Configuration and processor of a published architecture, from what ``spec`` says of it.

    Raises:
        UsageError: ``spec`` says nothing, or transformers does not have the family.
    """
    kind = spec.architecture.get("model_type", spec.family)
    if kind not in FORMS or not spec.architecture:
        raise UsageError(
            f"model={spec.name} has no architecture to build with random weights; give"
            " model.path=<folder>"
        )
    if kind not in CONFIG_MAPPING:
        raise UsageError(
            f"model={spec.name}: transformers {transformers.__version__} has no {kind}; a newer"
            " release of it may (docs/families.md)"
        )
    return built(kind, copy.deepcopy(spec.architecture), copy.deepcopy(spec.processor))


def built(kind: str, architecture: dict[str, Any], settings: dict[str, Any]) -> tuple[Any, Any]:
    """Configuration and processor of an architecture; a tiny model lends its tokenizer.

    Args:
        kind: ``model_type`` of the configuration.
        architecture: fields of the configuration.
        settings: of the image processor.
    """
    fields = {key: value for key, value in architecture.items() if key != "model_type"}
    config = AutoConfig.for_model(kind, **fields)
    own, any_tiny = (model_path(f"{TINY}/{name}") for name in (kind, LENDER))
    lender = own if own is not None and own.is_dir() else any_tiny
    return config, make_processor(config, str(lender), settings)


def _folder(spec: ModelConfig) -> Path | None:
    """The folder of ``model.path``; a repository's folder in the hub's cache stands for the
    revision in it.
    """
    path = model_path(spec.path)
    if path is None:
        return None
    if path.is_file():
        raise UsageError(
            f"model.path={spec.path} is a file; give the folder with config.json and the tokenizer:"
            f" {path.parent}"
        )
    # the hub's cache keeps one folder of links for each commit
    return hub.snapshot(path, spec.revision) if (path / "snapshots").is_dir() else path


def _auto_class(config: Any) -> Any:
    """The class that loads a model; remote code names its own."""
    remote = getattr(config, "auto_map", None) or {}
    names = ("AutoModelForImageTextToText", "AutoModelForCausalLM")
    return getattr(transformers, next((name for name in names if name in remote), names[0]))


def _quantization(spec: ModelConfig) -> dict[str, Any]:
    """The configuration of transformers for 8 or 4 bits per weight.

    Raises:
        UsageError: bitsandbytes is not there.
    """
    if spec.quantization is None:
        return {}
    if not is_bitsandbytes_available():
        raise UsageError(
            f"model.quantization={spec.quantization} needs the package bitsandbytes: pip install"
            " bitsandbytes"
        )
    if spec.quantization == "8bit":
        return {"quantization_config": BitsAndBytesConfig(load_in_8bit=True)}
    dtype = getattr(torch, spec.dtype)
    return {
        "quantization_config": BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype
        )
    }


def device_of(spec: ModelConfig) -> torch.device:
    """The device that a configuration names.

    Raises:
        UsageError: torch has no such device, or sees no GPU here.
    """
    if spec.device == AUTO:  # as the cell's key says
        return device_of(replace(spec, device=device_type(AUTO)))
    if spec.device.startswith("cuda") and not torch.cuda.is_available():
        raise UsageError(
            f"model.device={spec.device}: torch {torch.__version__} sees no GPU here; use"
            " model.device=cpu"
        )
    try:
        return torch.device(spec.device)
    except RuntimeError:
        raise UsageError(
            f"model.device={spec.device} is no device; for example cpu, cuda, cuda:1"
        ) from None


def _how_to_install(spec: ModelConfig, error: ImportError) -> str:
    if spec.attn.startswith("flash"):
        return (
            f"model.attn={spec.attn} needs the package flash-attn and a GPU: pip install"
            " flash-attn, or take model.attn=sdpa"
        )
    return (
        f"model={spec.name} needs a package that is not installed:"
        f" {str(error).strip().splitlines()[0]}"
    )


def _how_to_get(spec: ModelConfig, error: Exception) -> str:
    if "trust_remote_code" in str(error):
        return (
            f"model={spec.name} comes with code of its own, which runs on this machine with your"
            " rights: read it, then give model.trust_remote_code=true"
        )
    if spec.path is not None:
        kind = "" if isinstance(error, (OSError, ValueError)) else f"{type(error).__name__}: "
        return f"model.path={spec.path} cannot be loaded: {kind}{first_line(error)}"
    return hub.how_to_get(spec)
