"""Training the Temporal Conditioning Module as the released ``train.py`` does, and its ablations.

One step: the centre frame and one neighbour of a window of three are encoded; both are noised at the same timestep with
different noise; the frozen UNet predicts the neighbour's clean latent without the TCM; decoded and warped along the
flow it becomes the guidance image; the TCM learns to help the frozen UNet predict the centre's target.

Everything up to the guidance image is frozen (:meth:`TCMTask.freeze`, no autograd). It can be computed at each step, as
published, or once for all variants of a small study (:mod:`stablevsr.training.cached_samples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.data.degradation import SCALE
from stablevsr.data.layouts import Clip
from stablevsr.method import tcm
from stablevsr.method.flow import FlowEstimator, flow_by_name, occlusion_mask
from stablevsr.method.guidance import blank_image, enlarge, guidance_image
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import load_networks
from stablevsr.method.settings import Guidance, Training
from stablevsr.runtime.errors import UserError
from stablevsr.training.cached_samples import CachedSamples
from stablevsr.training.denoising import DenoisingTask, clean_estimate, encode
from stablevsr.training.samples import CENTRE, NEXT, PAST, WindowDataset, draw_integers, draw_normal
from stablevsr.training.task import LoopSettings, Sample, TaskInputs

WINDOW = 3  #: frames, as published


def build(inputs: TaskInputs) -> TCMTask:
    """The task of training a TCM that starts as a copy of the model's UNet, or as the model's own TCM."""
    settings: Training = inputs.settings
    guidance = settings.guidance or Guidance()
    from_model = settings.start == "model"
    if from_model and not (inputs.model / "controlnet").is_dir():
        raise UserError(f"{inputs.model} has no TCM to start from: give start: unet")
    networks = load_networks(inputs.model, inputs.device, with_tcm=from_model)
    if from_model:
        module: Any = networks.tcm
        module.train().requires_grad_(True)
    else:
        torch.manual_seed(settings.seed)  # the new layers' initial weights
        module = tcm.from_unet(networks.unet, settings.conditioning_init).to(inputs.device)
    networks.freeze_in(settings.precision)  # after the copy: what is trained keeps float32
    estimator = None
    if settings.needs_flow:
        estimator = flow_by_name(guidance.flow, str(inputs.device), guidance.raft_norm)
    if inputs.samples:
        blank = guidance.source == "none"
        data: Any = CachedSamples(inputs.samples, settings.neighbour == "both", settings.seed, blank)
    else:
        data = WindowDataset(inputs.clips, WINDOW, settings.crop, settings.seed, settings.order)
    task = TCMTask(module, networks, settings, guidance, estimator, data)
    task.hold_out(inputs.held_out, WINDOW, settings.crop, inputs.device)
    if settings.gradient_checkpointing:
        module.enable_gradient_checkpointing()
        networks.unet.enable_gradient_checkpointing()
    return task


class TCMTask(DenoisingTask):
    """Train a TCM; ``model`` is the TCM, everything in ``networks`` stays frozen."""

    def __init__(
        self,
        module: Any,
        networks: ModelParts,
        settings: Training,
        guidance: Guidance,
        estimator: FlowEstimator | None,
        data: Dataset[Sample],
    ) -> None:
        self.model, self.data = module, data
        self.frozen, self.settings, self.guidance, self.estimator = networks, settings, guidance, estimator
        self.scheduler = DDPMScheduler.from_config(networks.scheduler)
        self.channels = int(networks.unet.config.out_channels)
        self.sample_latents = settings.latents == "sample"

    def parameter_groups(self, settings: LoopSettings) -> list[dict[str, Any]]:
        """Copied and new layers, each with its learning rate."""
        copied, new = tcm.split_parameters(self.model)
        rate_new = settings.learning_rate if settings.learning_rate_new is None else settings.learning_rate_new
        return [{"params": copied, "lr": settings.learning_rate}, {"params": new, "lr": rate_new}]

    def draw_diffusion(self, side: int, generators: Sequence[torch.Generator]) -> Sample:
        """Neighbours, timesteps and the noise of both frames.

        The neighbour is drawn even where it is always the past frame, so that trainings that differ only in it get the
        same timesteps and noise.
        """
        neighbour = draw_integers(generators, 0, 2) * NEXT
        if self.settings.neighbour == "past":
            neighbour = torch.full_like(neighbour, PAST)
        drawn = {"neighbour": neighbour, **super().draw_diffusion(side, generators)}
        return drawn | {"noise_neighbour": draw_normal(generators, (self.channels, side, side))}

    @torch.no_grad()
    def freeze(self, window: Sample, drawn: Sample) -> dict[str, Tensor]:
        """The inputs of the TCM's step, which need no gradients.

        Args:
            window: ``gt`` (B, 3, 3, H, W) and ``lq`` (B, 3, 3, H/4, W/4) in [0, 1], frames on the second axis.
            drawn: from :meth:`draw`.

        Returns:
            ``latents``, ``noise`` (B, 4, h, w), ``timesteps`` (B,), ``lq`` (B, 3, h, w) in [-1, 1] and ``guidance``
            (B, 3, H, W); with a ``temporal_weight`` also ``to_neighbour`` (B, 4, h, w), from :meth:`to_neighbour`.
        """
        device = window["gt"].device
        drawn = {key: value.to(device) for key, value in drawn.items()}
        noise, noise_near, timesteps = drawn["noise"], drawn["noise_neighbour"], drawn["timesteps"]
        rows, near = torch.arange(len(window["gt"]), device=device), drawn["neighbour"]
        gt, lq = window["gt"] * 2 - 1, window["lq"] * 2 - 1
        with torch.autocast(device.type, enabled=False):  # frozen networks keep the precision they were loaded in
            both = torch.cat([gt[:, CENTRE], gt[rows, near]])  # centre and neighbour frames in one batch
            of_vae = None
            if self.sample_latents:
                of_vae = torch.cat([drawn["noise_latents"], drawn["noise_latents_neighbour"]])
            latents, latents_near = encode(self.frozen.vae, both, of_vae).chunk(2)
            lq, lq_near = lq[:, CENTRE], lq[rows, near]
            flow = self.flow(lq, lq_near) if self.estimator else torch.empty(0)
            noisy_near = self.scheduler.add_noise(latents_near, noise_near, timesteps)
            guide = partial(self.guide, noisy_near, lq_near, timesteps, flow)
            image = guide(self.guidance)
            frozen = {"latents": latents, "noise": noise, "timesteps": timesteps, "lq": lq, "guidance": image}
            if self.settings.temporal_weight:
                of_target = image if self.guidance == self.guidance.of_target else guide(self.guidance.of_target)
                visible = occlusion_mask(flow, self.flow(lq_near, lq))
                frozen["to_neighbour"] = self.to_neighbour(latents, of_target, visible)
        return frozen

    def flow(self, target: Tensor, source: Tensor) -> Tensor:
        """Flow (B, 2, 4h, 4w) between LR frames (B, 3, h, w)."""
        assert self.estimator is not None
        return self.estimator(enlarge(target), enlarge(source))

    def guide(self, noisy: Tensor, lq: Tensor, timesteps: Tensor, flow: Tensor, guidance: Guidance) -> Tensor:
        """The guidance image of the centre frame from the neighbour's noisy latents; blank if the source is none."""
        if guidance.source == "none":
            return blank_image(noisy)
        seen = noisy if guidance.source == "xt" else self.clean(noisy, lq, timesteps)
        return guidance_image(seen, flow, self.frozen.decode, guidance)

    def to_neighbour(self, latents: Tensor, image: Tensor, visible: Tensor) -> Tensor:
        """From the centre's clean latents (B, 4, h, w) to those of the neighbour's motion-compensated x̂0, ``image``.

        Less where the flow cannot be trusted (``visible``, (B, 1, 4h, 4w), is 0): there the neighbour does not show
        what the centre frame shows.
        """
        return (encode(self.frozen.vae, image, None) - latents) * F.avg_pool2d(visible, SCALE)

    def target(self, sample: Sample) -> Tensor:
        """v or the noise of a clean latent that has moved towards the neighbour by ``temporal_weight`` (1 - ᾱ).

        Up to a constant, the squared error to it is the weighted mean of two: to the ground truth, and to the
        neighbour's motion-compensated x̂0, with the share ``temporal_weight`` (1 - ᾱ) times that of the pixels whose
        flow can be trusted. Where there is little noise, the noisy latents already hold the detail, and only errors of
        the flow would be learned.
        """
        published = super().target(sample)
        if "to_neighbour" not in sample:
            return published
        bar = self.scheduler.alphas_cumprod.to(published.device)[sample["timesteps"]][:, None, None, None]
        step = (1 - bar).sqrt()  # of v, at the same noisy latent, where the clean latent moves by 1 - ᾱ
        if self.scheduler.config.prediction_type == "epsilon":
            step = step * bar.sqrt()
        return published - self.settings.temporal_weight * step * sample["to_neighbour"]

    def clean(self, noisy: Tensor, lq: Tensor, timesteps: Tensor) -> Tensor:
        """x̂0 of the neighbour by the frozen UNet without the TCM; right for v- and epsilon-prediction."""
        return clean_estimate(self.scheduler, noisy, self._unet(noisy, lq, timesteps, None, None), timesteps)

    def predict(self, sample: Sample, with_tcm: bool = True, **_: Any) -> tuple[Tensor, Tensor]:
        """The noisy latents of frozen samples and the UNet's output for them, both (B, 4, h, w)."""
        timesteps = sample["timesteps"]
        noisy = self.scheduler.add_noise(sample["latents"], sample["noise"], timesteps)
        down, mid = None, None
        if with_tcm:
            both = torch.cat([noisy, sample["lq"]], dim=1)
            down, mid = tcm.residuals(self.model, both, timesteps, self.frozen.prompt.float(), sample["guidance"])
        return noisy, self._unet(noisy, sample["lq"], timesteps, down, mid)

    def hold_out(self, clips: Sequence[Clip], frames: int, crop: int, device: torch.device) -> None:
        """As all trainings do; the validation is against the ground truth, whatever the ``temporal_weight``."""
        super().hold_out(clips, frames, crop, device)
        for chunk in self.held_out:
            chunk.pop("to_neighbour", None)

    def figures(self) -> dict[str, dict[str, float]]:
        """The loss with the TCM, and its ratio to the loss without."""
        for chunk in self.held_out:
            if "without" not in chunk:  # does not change while the TCM learns
                chunk["without"] = self.errors(chunk, with_tcm=False)
        loss, without = self.by_level(self.errors), self.by_level(lambda chunk: chunk["without"])
        return {"loss": loss, "ratio": {level: loss[level] / without[level] for level in loss}}

    def columns(self, sample: Sample) -> dict[str, Tensor]:
        """The guidance image, and the one-step estimates without and with the TCM."""
        estimates = (self.frozen.decode(self.estimate(sample, with_tcm=with_tcm)) for with_tcm in (False, True))
        return {"guidance": sample["guidance"], **dict(zip(("x0 without TCM", "x0 with TCM"), estimates, strict=True))}

    def _unet(self, noisy: Tensor, lq: Tensor, timesteps: Tensor, down: Any, mid: Any) -> Tensor:
        dtype = next(self.frozen.unet.parameters()).dtype
        return torch.as_tensor(
            self.frozen.unet(
                torch.cat([noisy, lq], dim=1).to(dtype),
                timesteps,
                encoder_hidden_states=self.frozen.prompt.to(dtype).expand(len(noisy), -1, -1),
                down_block_additional_residuals=None if down is None else tuple(d.to(dtype) for d in down),
                mid_block_additional_residual=None if mid is None else mid.to(dtype),
                return_dict=False,
            )[0]
        ).float()

    def save(self, folder: Path) -> None:
        """Write the TCM into ``folder`` in diffusers' layout (``config.json`` and safetensors)."""
        self.model.save_pretrained(folder)
