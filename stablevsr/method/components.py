"""Model folders in the hub layout: finding them, checking that they are whole, loading their parts.

A folder holds ``unet/``, ``vae/``, ``controlnet/``, ``text_encoder/``, ``tokenizer/`` and ``scheduler/``, weights as
safetensors only. ``tiny`` names the model embedded in this package.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stablevsr.data.downloads import registry
from stablevsr.method import decoding
from stablevsr.method.settings import Precision
from stablevsr.runtime.errors import UserError, near_miss

ASSETS = Path(__file__).parents[1] / "assets"
TINY = ASSETS / "tiny"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
#: The x4 upscaler's class label, the noise level of its LR input, is unused by the released code and weights.
NO_NOISE_LEVEL = {"num_class_embeds": None}
PARTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")


@dataclass
class Components:
    """The networks of one model, ready to run: frozen, on one device."""

    unet: Any
    vae: Any
    tcm: Any | None
    scheduler: dict[str, Any]  #: the scheduler's configuration (its class is chosen by the sampling settings)
    prompt: Tensor  #: (1, 77, C), the empty prompt's encoding
    device: torch.device
    guidance_decoder: Any | None = None  #: what decodes the guidance; None = the VAE
    tile: int | None = None  #: decode in tiles of so many latent pixels a side; None = whole frames
    may_tile: bool = False  #: take (smaller) tiles where memory runs out, and say so

    @property
    def vae_scale(self) -> float:
        """Latents are divided by this before decoding (0.08333 for the released model)."""
        return float(self.vae.config.scaling_factor)

    def decode(self, latents: Tensor) -> Tensor:
        """Decode scaled latents (B, 4, h, w) to RGB (B, 3, 4h, 4w), nominally in [-1, 1], raw (unclamped).

        Where the GPU's memory runs out and :attr:`may_tile` allows it, smaller tiles are taken from then on, and that
        is said. Raises :class:`UserError` if the smallest do not fit either.
        """
        unscaled = (latents / self.vae_scale).to(next(self.vae.parameters()).dtype)
        while True:
            try:
                return decoding.decode(self.vae, unscaled, self.tile).float()
            except torch.OutOfMemoryError:
                if not self.may_tile:
                    raise
                self.tile = decoding.smaller(self.tile, unscaled)
            # outside the handler: the exception holds on to what was allocated
            torch.cuda.empty_cache()
            print(f"the GPU's memory ran out: decoding in tiles of {self.tile} latent pixels", file=sys.stderr)

    def decode_guidance(self, latents: Tensor) -> Tensor:
        """As :meth:`decode`, for the guidance alone: by the small decoder where there is one."""
        if self.guidance_decoder is None:
            return self.decode(latents)
        return torch.as_tensor(self.guidance_decoder(latents.to(self.guidance_decoder.dtype))).float()

    def pack(self) -> None:
        """Keep the weights of UNet and TCM in 8 bits (e4m3): a layer is unpacked when it is needed.

        Half of bf16's memory, slower, and not the same numbers. Normalisations stay as they are.
        """
        for network in (self.unet, self.tcm):
            if network is not None:
                network.enable_layerwise_casting(torch.float8_e4m3fn, compute_dtype=network.dtype)

    def channels_last(self) -> None:
        """Keep the networks' weights, and so their activations, channel by channel within a pixel: rounding only.

        Measured to be faster on the CPU (docs/performance.md).
        """
        for network in (self.unet, self.vae, self.tcm, self.guidance_decoder):
            if network is not None:
                network.to(memory_format=torch.channels_last)

    def freeze_in(self, precision: Precision) -> None:
        """Keep the frozen UNet and VAE in ``precision`` (the VAE in float32 where it would overflow)."""
        # torch's own `to`: diffusers' warns about layers to keep in float32 that these networks do not have
        torch.nn.Module.to(self.unet, DTYPES[precision])
        torch.nn.Module.to(self.vae, torch.float32 if _overflows(self.vae, precision) else DTYPES[precision])


def find_model(model: str | Path, revision: str | None = None) -> Path:
    """The local folder of ``model``: ``tiny``, a folder, or a hub id (downloaded once, then from the cache).

    Raises :class:`UserError` in one sentence if there is no such folder and the hub cannot be reached.
    """
    if str(model) == "tiny":
        return TINY
    path = Path(model)
    if path.is_dir():
        return path
    if not registry.is_hub_id(str(model)):
        raise UserError(f"there is no model folder {model}{near_miss(str(model), ['tiny'])}")
    from stablevsr.data.downloads.hub import model_folder

    try:
        return model_folder(str(model), revision)
    except UserError as error:
        raise UserError(f"{error}; or take the embedded model, `tiny`") from error


def check_model(folder: Path, tcm: bool = True) -> None:
    """Raise :class:`UserError` that names the first part of a model folder that is missing."""
    for part in (*PARTS, "controlnet") if tcm else PARTS:
        if not (folder / part).is_dir():
            raise UserError(f"model folder {folder} lacks {part}/: it must hold {', '.join(PARTS)} and controlnet")
    networks = ["unet", "vae", "text_encoder"] + (["controlnet"] if tcm else [])
    for part in networks:
        check_weights(folder / part)


def check_weights(folder: Path) -> None:
    """Raise :class:`UserError` unless ``folder`` holds a configuration and safetensors weights."""
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    if not (folder / "config.json").is_file():
        raise UserError(f"{folder} has no config.json: it is no diffusers model folder")
    if not list(folder.glob("*.safetensors")):
        raise UserError(f"{folder} has no .safetensors weights (pickled weights are not loaded)")


def load_components(
    folder: Path,
    tcm: Path | None = None,
    device: str | torch.device = "cpu",
    precision: Precision = "fp32",
    with_tcm: bool = True,
    guidance_decoder: Path | None = None,
) -> Components:
    """Load a model folder; ``tcm`` takes the TCM from another folder (one with ``config.json`` and weights).

    ``guidance_decoder`` is the folder of a small decoder for the guidance; None = the VAE's decoder.

    The VAE stays in float32 under fp16 if its configuration says so (``force_upcast``), because it overflows there.
    """
    from diffusers import ControlNetModel, UNet2DConditionModel

    check_model(folder, tcm=with_tcm and tcm is None)
    dtype = DTYPES[precision]
    unet = _load(UNet2DConditionModel, folder / "unet", dtype, **NO_NOISE_LEVEL)
    vae = load_vae(folder, precision)
    module = None
    if with_tcm:
        if tcm is not None:
            check_weights(tcm)
        module = _load(ControlNetModel, tcm or folder / "controlnet", dtype).to(device)
    prompt = encode_empty_prompt(folder).to(device, dtype)
    scheduler = scheduler_config(folder)
    components = Components(unet.to(device), vae.to(device), module, scheduler, prompt, torch.device(device))
    if guidance_decoder is not None:
        from stablevsr.method.small_decoder import SmallDecoder

        check_weights(guidance_decoder)
        components.guidance_decoder = _load(SmallDecoder, guidance_decoder, dtype).to(device)
    return components


def scheduler_config(folder: Path) -> dict[str, Any]:
    """The noise schedule of a model folder, as its scheduler's configuration."""
    return dict(json.loads((folder / "scheduler" / "scheduler_config.json").read_text()))


def load_vae(folder: Path, precision: Precision) -> Any:
    """The frozen VAE of a model folder, in float32 where it would overflow in ``precision``."""
    from diffusers import AutoencoderKL

    vae = _load(AutoencoderKL, folder / "vae", DTYPES[precision])
    return vae.float() if _overflows(vae, precision) else vae


def load_for_training(folder: Path) -> Any:
    """A UNet in float32 that can be trained, without class labels if it had them."""
    from diffusers import UNet2DConditionModel

    unet = _load(UNet2DConditionModel, folder, torch.float32, **NO_NOISE_LEVEL)
    return unet.train().requires_grad_(True)


def _overflows(vae: Any, precision: Precision) -> bool:
    return precision == "fp16" and bool(vae.config.force_upcast)


def _load(kind: Any, folder: Path, dtype: torch.dtype, **config: Any) -> Any:
    written = _class_name(folder)
    if written not in (None, kind.__name__):
        raise UserError(f"{folder} holds another network, {written}: {kind.__name__} is wanted there")
    try:
        model = kind.from_pretrained(folder, torch_dtype=dtype, use_safetensors=True, local_files_only=True, **config)
    except Exception as error:  # diffusers raises many kinds for a damaged folder
        raise UserError(f"{folder} cannot be loaded as {kind.__name__}: {_first_line(error)}") from error
    if any(parameter.is_meta for parameter in model.parameters()):  # diffusers warns and leaves them without values
        raise UserError(f"{folder} holds weights that are not those of the {kind.__name__} in its config.json")
    return model.eval().requires_grad_(False)


def _first_line(error: Exception) -> str:
    """What an error says first, or its kind if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _class_name(folder: Path) -> str | None:
    """What the configuration says that the network is; None if it cannot be read, which loading it will say."""
    try:
        content = json.loads((folder / "config.json").read_text())
    except (OSError, ValueError):
        return None
    return content.get("_class_name") if isinstance(content, dict) else None


@torch.no_grad()
def encode_empty_prompt(folder: Path) -> Tensor:
    """The prompt '' padded to the tokenizer's length (77) and encoded: float32 (1, 77, C). Needed once a run."""
    from transformers import CLIPTextModel, CLIPTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()  # of weights that load in a moment: it would stand above the bar that matters
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        length = tokenizer.model_max_length
        tokens = tokenizer([""], padding="max_length", max_length=length, truncation=True, return_tensors="pt")
        encoder = CLIPTextModel.from_pretrained(
            folder / "text_encoder", dtype=torch.float32, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise UserError(
            f"the prompt cannot be encoded by {folder}/tokenizer and text_encoder: {_first_line(error)}"
        ) from error
    mask = tokens.attention_mask if getattr(encoder.config, "use_attention_mask", False) else None
    return encoder.eval()(tokens.input_ids, attention_mask=mask)[0]
