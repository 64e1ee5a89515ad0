"""Training the Temporal Conditioning Module as the released ``train.py`` does, and its ablations.

One step: the centre frame and one neighbour of a window of three are encoded; both are noised at the same timestep with
different noise; the frozen UNet predicts the neighbour's clean latent without the TCM; decoded and warped along the
flow it becomes the guidance image; the TCM learns to help the frozen UNet predict the centre's target.

Everything up to the guidance image is frozen (:meth:`TCMTask.freeze`, no autograd). It can be computed at each step, as
published, or once for all variants of a small study (:mod:`stablevsr.training.cached_samples`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler
from torch import Tensor
from torch.utils.data import Dataset

from stablevsr.method import tcm
from stablevsr.method.flow import FlowEstimator
from stablevsr.method.guidance import blank_image, enlarge, guidance_image
from stablevsr.method.networks import ModelParts
from stablevsr.method.pipeline import flow_by_name, load_networks
from stablevsr.method.settings import Guidance, Training
from stablevsr.training import validation
from stablevsr.training.cached_samples import CachedSamples
from stablevsr.training.samples import CENTRE, NEXT, PAST, WindowDataset, draw_integers, draw_normal
from stablevsr.training.targets import clean_estimate, training_target
from stablevsr.training.task import DenoisingTask, LoopSettings, TaskInputs

WINDOW = 3  #: frames, as published


def build(inputs: TaskInputs) -> TCMTask:
    """A TCM copied from the UNet of the model, to be trained beside it."""
    settings: Training = inputs.settings
    guidance = settings.guidance or Guidance()
    networks = load_networks(inputs.model, inputs.device, with_tcm=False)
    torch.manual_seed(settings.seed)  # the new layers' initial weights
    module = tcm.from_unet(networks.unet, settings.conditioning_init).to(inputs.device)
    networks.freeze_in(settings.precision)  # after the copy: what is trained keeps float32
    estimator = flow_by_name(guidance.flow, str(inputs.device)) if guidance.needs_flow else None
    if inputs.samples:
        data: Any = CachedSamples(inputs.samples, settings.neighbour == "both", settings.seed)
    else:
        data = WindowDataset(inputs.clips, WINDOW, settings.crop, settings.seed)
    task = TCMTask(module, networks, settings, guidance, estimator, data)
    task.held_out = validation.held_out(task, inputs.held_out, WINDOW, settings.crop, inputs.device)
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
        data: Dataset[dict[str, Tensor]],
    ) -> None:
        self.model, self.data = module, data
        self.frozen, self.settings, self.guidance, self.estimator = networks, settings, guidance, estimator
        self.scheduler = DDPMScheduler.from_config(networks.scheduler)

    def parameter_groups(self, settings: LoopSettings) -> list[dict[str, Any]]:
        """Copied and new layers, each with its learning rate."""
        copied, new = tcm.split_parameters(self.model)
        rate_new = settings.learning_rate if settings.learning_rate_new is None else settings.learning_rate_new
        return [{"params": copied, "lr": settings.learning_rate}, {"params": new, "lr": rate_new}]

    def loss(self, batch: dict[str, Tensor], generators: Sequence[torch.Generator]) -> Tensor:
        """Mean squared error of the prediction; ``batch`` holds a window (``gt``, ``lq``) or a frozen sample."""
        if "guidance" not in batch:
            batch = self.freeze(batch, self.draw(batch["lq"].shape[-1], generators))
        return self.guided_loss(batch)

    def draw(self, side: int, generators: Sequence[torch.Generator]) -> dict[str, Tensor]:
        """All random choices, on the CPU, a generator a sample: neighbour, timestep, and the noise of both frames."""
        shape = (int(self.frozen.unet.config.out_channels), side, side)
        if self.settings.neighbour == "past":
            neighbour = torch.full((len(generators),), PAST)
        else:
            neighbour = draw_integers(generators, 0, 2) * NEXT
        return {
            "neighbour": neighbour,
            "timesteps": draw_integers(generators, 0, int(self.scheduler.config.num_train_timesteps)),
            "noise": draw_normal(generators, shape),
            "noise_neighbour": draw_normal(generators, shape),
        }

    @torch.no_grad()
    def freeze(self, window: dict[str, Tensor], drawn: dict[str, Tensor]) -> dict[str, Tensor]:
        """Everything the TCM's step needs that no gradient flows through.

        Args:
            window: ``gt`` (B, 3, 3, H, W) and ``lq`` (B, 3, 3, H/4, W/4) in [0, 1], frames on the second axis.
            drawn: from :meth:`draw`.

        Returns:
            ``latents``, ``noise`` (B, 4, h, w), ``timesteps`` (B,), ``lq`` (B, 3, h, w) in [-1, 1] and ``guidance``
            (B, 3, H, W).
        """
        device = window["gt"].device
        with torch.autocast(device.type, enabled=False):  # frozen networks keep the precision they were loaded in
            return self._freeze(window, drawn, device)

    def _freeze(self, window: dict[str, Tensor], drawn: dict[str, Tensor], device: torch.device) -> dict[str, Tensor]:
        drawn = {key: value.to(device) for key, value in drawn.items()}
        rows = torch.arange(len(window["gt"]), device=device)
        gt, lq = window["gt"] * 2 - 1, window["lq"] * 2 - 1
        near = drawn["neighbour"]
        both = self.encode(torch.cat([gt[:, CENTRE], gt[rows, near]]))  # centre and neighbour frames in one batch
        latents, latents_near = both.chunk(2)
        image = self.guide(latents_near, lq[rows, near], lq[:, CENTRE], drawn["noise_neighbour"], drawn["timesteps"])
        return {
            "latents": latents,
            "noise": drawn["noise"],
            "timesteps": drawn["timesteps"],
            "lq": lq[:, CENTRE],
            "guidance": image,
        }

    def encode(self, images: Tensor) -> Tensor:
        """Scaled latents (the distribution's mode) of images in [-1, 1]."""
        dtype = next(self.frozen.vae.parameters()).dtype
        return (self.frozen.vae.encode(images.to(dtype)).latent_dist.mode() * self.frozen.vae_scale).float()

    def guide(self, latents: Tensor, lq: Tensor, lq_centre: Tensor, noise: Tensor, timesteps: Tensor) -> Tensor:
        """The guidance image of the centre frame from the neighbour's latents; blank if the source is none."""
        if self.guidance.source == "none":
            return blank_image(latents)
        noisy = self.scheduler.add_noise(latents, noise, timesteps)
        seen = noisy if self.guidance.source == "xt" else self.clean(noisy, lq, timesteps)
        flow = torch.empty(0)
        if self.guidance.motion_compensation != "none":
            assert self.estimator is not None
            flow = self.estimator(enlarge(lq_centre), enlarge(lq))
        return guidance_image(seen, flow, self.frozen.decode, self.guidance)

    def clean(self, noisy: Tensor, lq: Tensor, timesteps: Tensor) -> Tensor:
        """x̂0 of the neighbour by the frozen UNet without the TCM; right for v- and epsilon-prediction."""
        return clean_estimate(self.scheduler, noisy, self._unet(noisy, lq, timesteps, None, None), timesteps)

    def guided_loss(self, sample: dict[str, Tensor], with_tcm: bool = True) -> Tensor:
        """MSE against the training target, given a frozen sample; without the TCM for comparison."""
        return self.errors(sample, with_tcm).mean()

    def errors(self, sample: dict[str, Tensor], with_tcm: bool = True) -> Tensor:
        """Squared errors (B, 4, h, w) of the prediction on frozen samples."""
        _, predicted = self.predict(sample, with_tcm)
        target = training_target(self.scheduler, sample["latents"], sample["noise"], sample["timesteps"])
        return F.mse_loss(predicted, target.float(), reduction="none")

    def predict(self, sample: dict[str, Tensor], with_tcm: bool = True) -> tuple[Tensor, Tensor]:
        """The noisy latents of frozen samples and the UNet's output for them, both (B, 4, h, w)."""
        timesteps = sample["timesteps"]
        noisy = self.scheduler.add_noise(sample["latents"], sample["noise"], timesteps)
        down, mid = None, None
        if with_tcm:
            both = torch.cat([noisy, sample["lq"]], dim=1)
            down, mid = tcm.residuals(self.model, both, timesteps, self.frozen.prompt.float(), sample["guidance"])
        return noisy, self._unet(noisy, sample["lq"], timesteps, down, mid)

    def estimate(self, sample: dict[str, Tensor], with_tcm: bool = True) -> Tensor:
        """The one-step estimates x̂0 (B, 4, h, w) of frozen samples."""
        noisy, predicted = self.predict(sample, with_tcm)
        return clean_estimate(self.scheduler, noisy, predicted, sample["timesteps"])

    @torch.no_grad()
    def validate(self, picture: Path) -> dict[str, float]:
        """``val_loss_<level>`` and ``val_ratio_<level>`` (loss with the TCM over loss without it) for three levels."""
        if not self.held_out:
            return {}
        for chunk in self.held_out:
            chunk["with"] = self.errors(chunk).mean((1, 2, 3))
            if "without" not in chunk:  # does not change while the TCM learns
                chunk["without"] = self.errors(chunk, with_tcm=False).mean((1, 2, 3))
        shown, timesteps = self.held_out[0], validation.joined(self.held_out, "timesteps")
        columns = {"LR": validation.enlarged(shown), "guidance": shown["guidance"]}
        for name, with_tcm in (("x0 without TCM", False), ("x0 with TCM", True)):
            columns[name] = self.frozen.decode(self.estimate(shown, with_tcm))
        validation.strip(columns | {"ground truth": validation.truth(shown)}, picture)
        loss, alone = (validation.by_level(validation.joined(self.held_out, k), timesteps) for k in ("with", "without"))
        return {f"val_loss_{k}": v for k, v in loss.items()} | {f"val_ratio_{k}": loss[k] / alone[k] for k in loss}

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
