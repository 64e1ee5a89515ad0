"""The noise scheduler: timesteps, predicted clean latents, and one reverse step.

The schedule itself comes from diffusers. Written here is what a frame-wise sampler needs and diffusers' schedulers do
not offer: the predicted clean latent for every prediction type, and DDPM's ancestral step with the noise as an
argument, because a sequence's draws have their own order.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, UniPCMultistepScheduler
from torch import Tensor

from stablevsr.method.settings import Solver

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
    """

    def __init__(self, config: dict[str, Any], solver: Solver, steps: int) -> None:
        self._scheduler = _build(config, solver)
        self._scheduler.set_timesteps(steps)
        self.timesteps: list[int] = [int(t) for t in self._scheduler.timesteps]
        self.kind: str = self._scheduler.config.prediction_type
        self.stochastic = solver == "ddpm"
        self._alpha_bar = self._scheduler.alphas_cumprod.double()

    def alpha_bar(self, timestep: int) -> Tensor:
        """Cumulative alpha at ``timestep`` (scalar, float64: the products below are then exact to float32)."""
        return self._alpha_bar[timestep] if timestep >= 0 else torch.ones((), dtype=torch.float64)

    def clean(self, index: int, noisy: Tensor, predicted: Tensor) -> Tensor:
        """x̂0 at step ``index``; float32 (B, 4, h, w)."""
        alpha_bar = self.alpha_bar(self.timesteps[index]).to(noisy)
        return clean_latent(self.kind, alpha_bar, noisy, predicted.to(noisy))

    def step(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor | None) -> Tensor:
        """x_{t-1} for all frames at once: (B, 4, h, w) in, the same out; ``noise`` only where :attr:`stochastic`."""
        if self.stochastic:
            return self._ancestral(index, noisy, predicted, noise)
        timestep = self._scheduler.timesteps[index]
        return self._scheduler.step(predicted.to(noisy), timestep, noisy, return_dict=False)[0]

    def _ancestral(self, index: int, noisy: Tensor, predicted: Tensor, noise: Tensor | None) -> Tensor:
        """DDPM's posterior mean and the ``fixed_small`` variance (Ho et al., eq. 6 and 7)."""
        timestep = self.timesteps[index]
        previous = self._previous(timestep)
        bar, bar_previous = self.alpha_bar(timestep), self.alpha_bar(previous)
        alpha = bar / bar_previous
        clean = clean_latent(self.kind, bar.to(noisy), noisy, predicted.to(noisy))
        mean = (bar_previous.sqrt() * (1 - alpha) / (1 - bar)).to(noisy) * clean
        mean = mean + (alpha.sqrt() * (1 - bar_previous) / (1 - bar)).to(noisy) * noisy
        if timestep == 0 or noise is None:
            return mean
        variance = ((1 - bar_previous) / (1 - bar) * (1 - alpha)).clamp(min=1e-20)
        return mean + variance.sqrt().to(noisy) * noise

    def _previous(self, timestep: int) -> int:
        """The timestep that one step leads to: an even stride, as DDPM counts it, also for the last step."""
        stride = self._scheduler.config.num_train_timesteps // len(self.timesteps)
        return timestep - stride


def _build(config: dict[str, Any], solver: Solver) -> Any:
    """A diffusers scheduler with the model folder's configuration; the class it declares (DDIM) is ignored."""
    if solver == "ddpm":
        return DDPMScheduler.from_config(config)
    if solver == "ddim":
        return DDIMScheduler.from_config(config)
    if solver == "dpmsolver++":
        return DPMSolverMultistepScheduler.from_config(config, algorithm_type="dpmsolver++", solver_order=2)
    return UniPCMultistepScheduler.from_config(config, solver_order=2)
