"""Loading the parts of a model folder (:mod:`.model_folder`) with the classes of diffusers and transformers.

A part that is missing, damaged or of another class raises a :class:`UserError` that names it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, ControlNetModel, DDIMScheduler, UNet2DConditionModel
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from stablevsr.method.model_folder import check_model, check_weights, model_index
from stablevsr.method.small_decoder import SmallDecoder
from stablevsr.runtime.errors import UserError
from stablevsr.runtime.parsing import parse

NETWORKS = {
    "unet": UNet2DConditionModel,
    "vae": AutoencoderKL,
    "controlnet": ControlNetModel,
    "guidance_decoder": SmallDecoder,
}
OPTIONAL = ("controlnet", "guidance_decoder")  #: parts that a pipeline can do without


def load_parts(
    folder: Path, device: str | torch.device, dtype: torch.dtype, given: Mapping[str, Any]
) -> dict[str, Any]:
    """The parts of a pipeline by name, the networks frozen on ``device`` in ``dtype``.

    Args:
        folder: the model folder.
        device: of the networks; the text encoder, which runs once, stays on the CPU in float32.
        dtype: of the networks; a VAE that would overflow in float16 is loaded in float32.
        given: used in place of the folder's parts, by name: another folder, a loaded part, or None for no such part.

    Raises:
        UserError: a part is missing, damaged, or of another class.
    """
    small = folder / "guidance_decoder"
    given = {"guidance_decoder": small if small.is_dir() else None, **given}
    if model_index(folder).get("controlnet") == [None, None]:
        given.setdefault("controlnet", None)
    check_model(folder, without=given)
    for name, part in given.items():
        if isinstance(part, str | Path):
            check_weights(Path(part))
        elif not _can_be(name, part):
            raise UserError(f"{name} is a {type(part).__name__}: give a folder or a loaded {name}")
    loaders: dict[str, Callable[[Path], Any]] = {
        **{name: partial(load_network, name, dtype=dtype) for name in NETWORKS},
        "scheduler": load_scheduler,
        "tokenizer": load_tokenizer,
        "text_encoder": load_text_encoder,
    }
    chosen = {name: given.get(name, folder / name) for name in loaders}
    parts = {name: loaders[name](Path(p)) if isinstance(p, str | Path) else p for name, p in chosen.items()}
    for name in NETWORKS:
        if parts[name] is not None:
            parts[name].to(device)
    return parts


def _can_be(name: str, part: Any) -> bool:
    """Whether ``part`` looks like a loaded part of this name; None stands for no such part where there may be none."""
    if part is None:
        return name in OPTIONAL
    if name == "tokenizer":
        return callable(part)
    return hasattr(part, "config") and (name == "scheduler" or isinstance(part, torch.nn.Module))


def load_network(part: str, folder: Path, dtype: torch.dtype) -> Any:
    """The frozen network ``part``, a key of :data:`NETWORKS`; a VAE that would overflow in ``dtype`` is float32.

    A UNet has no class label: the x4 upscaler's, the noise level of its LR input, is unused by the released code and
    weights.
    """
    kind: Any = NETWORKS[part]
    config = {"num_class_embeds": None} if part == "unet" else {}
    with _one_sentence(f"{folder} cannot be loaded as {kind.__name__}"):
        written = kind.load_config(folder, local_files_only=True).get("_class_name", kind.__name__)
    if written != kind.__name__:
        raise UserError(f"{folder} holds another network, {written}: {kind.__name__} is wanted there")
    model = _load(kind, folder, torch_dtype=dtype, use_safetensors=True, **config)
    if any(parameter.is_meta for parameter in model.parameters()):  # diffusers warns and leaves them without values
        raise UserError(f"{folder} holds weights that are not those of the {kind.__name__} in its config.json")
    model.eval().requires_grad_(False)
    return keep_finite(model) if part == "vae" else model


def keep_finite(vae: Any) -> Any:
    """The VAE, moved to float32 if it overflows in float16 (``force_upcast`` in its configuration)."""
    if vae.dtype == torch.float16 and vae.config.force_upcast:
        torch.nn.Module.to(vae, torch.float32)
    return vae


def load_scheduler(folder: Path) -> Any:
    """A noise scheduler; sampling and training take its configuration, not its class."""
    file = folder / "scheduler_config.json"
    with _one_sentence(f"{file} is damaged"):
        content = json.loads(file.read_text(encoding="utf-8"))
    parse(_NoiseSchedule, content, file)  # diffusers would fill in what is missing
    return _load(DDIMScheduler, folder)


class _NoiseSchedule(BaseModel):
    """What a noise scheduler's configuration must hold."""

    model_config = ConfigDict(allow_inf_nan=False)

    prediction_type: Literal["v_prediction", "epsilon", "sample"]
    num_train_timesteps: int = Field(ge=1)
    beta_start: float = Field(gt=0, lt=1)
    beta_end: float = Field(gt=0, lt=1)


def load_tokenizer(folder: Path) -> Any:
    """A tokenizer of CLIP."""
    from transformers import CLIPTokenizer

    return _load(CLIPTokenizer, folder)


def load_text_encoder(folder: Path) -> Any:
    """A frozen text encoder of CLIP, in float32."""
    from transformers import CLIPTextModel
    from transformers.utils import logging

    logging.disable_progress_bar()  # the weights load in a moment
    return _load(CLIPTextModel, folder, dtype=torch.float32, use_safetensors=True).eval().requires_grad_(False)


def _load(kind: Any, folder: Path, **options: Any) -> Any:
    with _one_sentence(f"{folder} cannot be loaded as {kind.__name__}"):
        return kind.from_pretrained(folder, local_files_only=True, **options)


def load_prompt(folder: Path) -> Tensor:
    """The empty prompt, encoded by a model folder's tokenizer and text encoder: float32 (1, 77, C)."""
    return encode_empty_prompt(load_tokenizer(folder / "tokenizer"), load_text_encoder(folder / "text_encoder"))


@torch.no_grad()
def encode_empty_prompt(tokenizer: Any, text_encoder: Any) -> Tensor:
    """The prompt '' padded to the tokenizer's length (77) and encoded: float32 (1, 77, C)."""
    with _one_sentence(f"the prompt cannot be encoded by {tokenizer.name_or_path} and its text encoder"):
        length = tokenizer.model_max_length
        tokens = tokenizer([""], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        tokens = tokens.to(text_encoder.device)
        mask = tokens.attention_mask if getattr(text_encoder.config, "use_attention_mask", False) else None
        prompt: Tensor = text_encoder(tokens.input_ids, attention_mask=mask)[0].float()
    if not bool(prompt.isfinite().all()):
        raise UserError("the text encoder gave values that are not finite numbers: fetch or copy its weights again")
    return prompt


@contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    """Turns every error, of many classes in diffusers and transformers, into ``what`` and its first line."""
    try:
        yield
    except Exception as error:
        raise UserError(f"{what}: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
