"""The noise scheduler: timesteps, predicted clean latents, and one reverse step.

The schedule itself comes from diffusers. This module adds what a frame-wise sampler needs and diffusers' schedulers do
not offer: the predicted clean latent for every prediction type, and DDPM's ancestral step with the noise as an
argument, because the sampler draws it in another order.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from stablevsr.method.settings import Solver
from stablevsr.runtime.errors import UserError

#: Each solver with diffusers' defaults: the multistep ones are of second order.
SOLVERS: dict[Solver, Any] = {
    "ddpm": DDPMScheduler, "ddim": DDIMScheduler, "dpmsolver++": DPMSolverMultistepScheduler,
    "unipc": UniPCMultistepScheduler,
}  # fmt: skip
MULTISTEP = ("dpmsolver++", "unipc")  #: solvers that keep a history from step to step


def clean_latent(kind: str, alpha_bar: Tensor, noisy: Tensor, predicted: Tensor) -> Tensor:
    """x̂0 from the model's output (DDPM's eq. 15, or its v-prediction form).

    Args:
        kind: ``v_prediction``, ``epsilon`` or ``sample``.
        alpha_bar: cumulative product of alphas at the timestep, broadcastable to the latents.
        noisy: x_t, (B, 4, h, w).
        predicted: the model's output, same shape.
    """
    if kind == "v_prediction":
        return alpha_bar.sqrt() * noisy - (1 - alpha_bar).sqrt() * predicted
    if kind == "epsilon":
        return (noisy - (1 - alpha_bar).sqrt() * predicted) / alpha_bar.sqrt()
    if kind == "sample":
        return predicted
    raise ValueError(f"prediction_type {kind!r} is not one of v_prediction, epsilon, sample")


class Schedule:
    """The timesteps of one sampling run and its reverse step, for any number of frames at once.

    DDPM draws one noise tensor a frame and step (:attr:`stochastic`); the other solvers are deterministic here
    (DDIM with eta 0), and multistep ones keep their history between calls of :meth:`step`.

    Raises :class:`UserError` for more steps than the model was trained with, and where a scheduler for ``ddpm`` clips.
    """

    def __init__(self, config: dict[str, Any], solver: Solver, steps: int) -> None:
        known = int(config["num_train_timesteps"])
        if steps > known:
            raise UserError(f"{steps} denoising steps are more than the {known} that the model was trained with")
        self._scheduler = SOLVERS[solver].from_config(config)  # the class that the model folder names is not used
        self._scheduler.set_timesteps(steps)
        self.timesteps: list[int] = [int(t) for t in self._scheduler.timesteps]
        chosen = self._scheduler.config
        self.kind: str = chosen.prediction_type
        self.stochastic = solver == "ddpm"
        if self.stochastic and (chosen.clip_sample or chosen.thresholding):
            raise UserError(
                "the model's noise scheduler clips predicted latents, which the ddpm solver does not do: set "
                "clip_sample and thresholding to false in scheduler/scheduler_config.json, or take another solver"
            )
        self._alpha_bar = self._scheduler.alphas_cumprod.double()

    def alpha_bar(self, timestep: int) -> Tensor:
        """Cumulative product of alphas at ``timestep`` (scalar, float64, so that its products are exact in float32)."""
        return self._alpha_bar[timestep] if timestep >= 0 else torch.ones((), dtype=torch.float64)

    def clean(self, index: int, noisy: Tensor, predicted: Tensor) -> Tensor:
        """x̂0 at step ``index``; float32 (B, 4, h, w)."""
        alpha_bar = self.alpha_bar(self.timesteps[index]).to(noisy)
        return clean_latent(self.kind, alpha_bar, noisy, predicted.to(noisy))

    def step(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor | None) -> Tensor:
        """x_{t-1} for all frames at once: (B, 4, h, w) in, the same out; ``noise`` only where :attr:`stochastic`."""
        if self.stochastic:
            return self._ancestral(index, noisy, predicted, noise)
        return self._scheduler.step(predicted.to(noisy), self.timesteps[index], noisy, return_dict=False)[0]

    def _ancestral(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor | None) -> Tensor:
        """DDPM's posterior mean and the ``fixed_small`` variance (Ho et al., eq. 6 and 7)."""
        timestep = self.timesteps[index]
        stride = self._scheduler.config.num_train_timesteps // len(self.timesteps)  # even, also for the last step
        bar, bar_previous = self.alpha_bar(timestep), self.alpha_bar(timestep - stride)
        alpha = bar / bar_previous
        mean = (bar_previous.sqrt() * (1 - alpha) / (1 - bar)).to(noisy) * self.clean(index, noisy, predicted)
        mean = mean + (alpha.sqrt() * (1 - bar_previous) / (1 - bar)).to(noisy) * noisy
        if timestep == 0 or noise is None:
            return mean
        variance = ((1 - bar_previous) / (1 - bar) * (1 - alpha)).clamp(min=1e-20)
        return mean + variance.sqrt().to(noisy) * noise
