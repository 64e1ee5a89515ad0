"""The sampler: denoises the frames of sequences in the order of :mod:`.strategies`, each guided by its neighbour.

Frame-wise bidirectional sampling (paper, section 4.3): each denoising step visits all frames before the next step
begins, every frame guided by the one visited just before it, and the direction turns after every step. The other
strategies are its ablations. Frames of several sequences of one size are sampled side by side as a batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from stablevsr.data.frames import Frame
from stablevsr.method import tcm, unet
from stablevsr.method.flow import FlowEstimator
from stablevsr.method.guidance import Flows, guidance_image
from stablevsr.method.networks import ModelParts
from stablevsr.method.scheduler import Schedule
from stablevsr.method.settings import Guidance, Sampling, Strategy
from stablevsr.method.strategies import sweeps, visiting_order
from stablevsr.runtime.timing import Stage, untimed

Progress = Callable[[int], None]  #: called with the number of frame-steps just done
#: LR pixels that go through the UNet's first half together: a frame of REDS, which keeps a GPU busy by itself. More
#: would take memory (0.27 GB a frame of REDS in float32) and gain nothing.
AT_ONCE = 320 * 180


class Noise:
    """All random draws of one sequence, from one CPU generator, in the published order.

    First the N initial latents, then step by step one tensor a frame in visiting order. ``auto_regressive`` uses the
    same draws as ``unidirectional`` but frame by frame, so the generator's states are kept (5 kB a frame and step)
    instead of the tensors (which would grow with the frames' area).
    """

    def __init__(self, generator: torch.Generator, shape: tuple[int, ...], frames: int, strategy: Strategy) -> None:
        self._generator, self._shape, self._frames, self._strategy = generator, shape, frames, strategy
        self._states: list[Tensor] = []

    def initial(self) -> Tensor:
        """(N, 4, h, w), the starting latents; to be called first and once."""
        return torch.stack([self._draw() for _ in range(self._frames)])

    def step(self, step: int) -> Tensor:
        """(N, 4, h, w) in frame order, the noise of one step; steps are asked for in order."""
        drawn = {frame: self._draw() for frame in visiting_order(self._strategy, step, self._frames)}
        return torch.stack([drawn[frame] for frame in range(self._frames)])

    def record(self, steps: int) -> None:
        """Run through the draws of ``steps`` steps once, remembering where each begins; :meth:`replay` repeats any."""
        for _ in range(steps * self._frames):
            self._states.append(self._generator.get_state())
            self._draw()

    def replay(self, step: int, frame: int) -> Tensor:
        """(1, 4, h, w): the draw of one step and frame after :meth:`record`."""
        self._generator.set_state(self._states[step * self._frames + frame])
        return self._draw()[None]

    def _draw(self) -> Tensor:
        return torch.randn(1, *self._shape, generator=self._generator, device=self._generator.device)[0]


class Sampler:
    """Samples the latents of a batch of sequences of one length and frame size.

    Args:
        model: the networks.
        sampling: strategy, solver, steps.
        guidance: what the TCM sees.
        estimator: optical flow, used by the strategies that have a neighbour.
        at_once: LR pixels that go through the UNet's first half together, ahead of the sweep; 1 takes frame by frame
            as the published code does. Rounding only.
        progress: called as frame-steps are done.
        stage: a stopwatch's; stages are flow, warp, scheduler and the networks by name.
    """

    def __init__(
        self,
        model: ModelParts,
        sampling: Sampling,
        guidance: Guidance,
        estimator: FlowEstimator,
        at_once: int = AT_ONCE,
        progress: Progress | None = None,
        stage: Stage = untimed,
    ) -> None:
        self.model, self.sampling, self.guidance, self.estimator = model, sampling, guidance, estimator
        self.at_once, self.stage = at_once, stage
        self.sweeps = sweeps(sampling)
        self.progress = progress or (lambda _: None)

    @torch.no_grad()
    def __call__(self, lr: Tensor, generators: Sequence[torch.Generator]) -> Tensor:
        """Final scaled latents (S, N, 4, h, w) of LR frames (S, N, 3, h, w) in [-1, 1]; one generator a sequence."""
        sequences, frames, _, height, width = lr.shape
        lr = lr.to(self.model.device)
        shape = (int(self.model.unet.config.out_channels), height, width)
        noises = [Noise(g, shape, frames, self.sampling.strategy) for g in generators]
        if len(noises) != sequences:
            raise ValueError(f"{sequences} sequences need as many generators, got {len(noises)}")
        latents = torch.stack([noise.initial() for noise in noises]).to(self.model.device)
        if self.sampling.strategy == "auto_regressive":
            return self._frame_by_frame(lr, latents, noises)
        return self._step_by_step(lr, latents, noises)

    def _schedule(self) -> Schedule:
        return Schedule(self.model.scheduler, self.sampling.scheduler, self.sampling.steps)

    def _step_by_step(self, lr: Tensor, latents: Tensor, noises: list[Noise]) -> Tensor:
        """Every step visits all frames; the reverse step itself is taken for all of them at once afterwards."""
        schedule = self._schedule()
        flows = Flows(lr, self.estimator)
        for step in range(len(schedule.timesteps)):
            order = visiting_order(self.sampling.strategy, self.sweeps.get(step, 0), latents.shape[1])
            predicted = self._sweep(schedule, step, order, latents, lr, flows)
            with self.stage("scheduler"):
                noise = None
                if schedule.stochastic:
                    noise = torch.stack([n.step(step) for n in noises]).flatten(0, 1).to(latents)
                stepped = schedule.step(step, latents.flatten(0, 1), predicted.flatten(0, 1), noise)
                latents = stepped.view_as(latents)
        return latents

    def _sweep(
        self, schedule: Schedule, step: int, order: list[int], latents: Tensor, lr: Tensor, flows: Flows
    ) -> Tensor:
        """Model outputs of one step, in visiting order: each frame guided by the one before, the first without TCM.

        At a step without guidance nothing waits for a neighbour, and frames go through the whole UNet together.
        """
        timestep, predicted = schedule.timesteps[step], torch.empty_like(latents)
        before: int | None = None
        for some in self._together(order, latents):
            sample = self._sample(latents[:, some], lr[:, some])
            encoded = self._encode(sample, timestep)
            if step not in self.sweeps:
                output = self._decode(encoded, sample, timestep, None)
                predicted[:, some] = output.view(len(some), len(latents), *output.shape[1:]).transpose(0, 1)
                self.progress(len(output))
                continue
            for frame, part in zip(some, _parts(len(some), len(latents)), strict=True):
                image = None
                if before is not None:
                    seen = self._seen(schedule, step, latents[:, before], predicted[:, before])
                    image = self._image(seen, flows, frame, before)
                predicted[:, frame] = self._decode(encoded.part(part), sample[part], timestep, image)
                before = frame
                self.progress(len(latents))
        return predicted

    def _together(self, order: list[int], latents: Tensor) -> list[list[int]]:
        """``order`` in pieces of as many frames as go through the UNet's first half at once, of all sequences."""
        sequences, _, _, height, width = latents.shape
        count = max(1, self.at_once // (sequences * height * width))
        return [order[first : first + count] for first in range(0, len(order), count)]

    def _frame_by_frame(self, lr: Tensor, latents: Tensor, noises: list[Noise]) -> Tensor:
        """Frame i runs all its steps guided by the finished frame i-1, whose image is decoded and warped once."""
        flows = Flows(lr, self.estimator)
        finished: list[Tensor] = []
        for noise in noises if self._schedule().stochastic else ():
            noise.record(self.sampling.steps)
        for frame in range(latents.shape[1]):
            image = self._image(finished[-1], flows, frame, frame - 1) if finished else None
            finished.append(self._one_frame(frame, latents[:, frame], lr[:, frame], image, noises))
        return torch.stack(finished, dim=1)

    def _one_frame(self, frame: int, latent: Tensor, lr: Tensor, image: Tensor | None, noises: list[Noise]) -> Tensor:
        schedule = self._schedule()
        for step, timestep in enumerate(schedule.timesteps):
            predicted = self._predict(timestep, latent, lr, image if step in self.sweeps else None)
            with self.stage("scheduler"):
                noise = None
                if schedule.stochastic:
                    noise = torch.cat([n.replay(step, frame) for n in noises]).to(latent)
                latent = schedule.step(step, latent, predicted, noise)
            self.progress(len(latent))
        return latent

    def _seen(self, schedule: Schedule, step: int, noisy: Tensor, predicted: Tensor) -> Tensor:
        """What of the neighbour is decoded: its noisy latent of this step, or its predicted clean latent."""
        return noisy if self.guidance.source == "xt" else schedule.clean(step, noisy, predicted)

    def _image(self, neighbour: Tensor, flows: Flows, target: int, source: int) -> Tensor:
        flow = torch.empty(0)
        if self.guidance.needs_flow:
            with self.stage("flow"):
                flow = flows.between(target, source)
        with self.stage("warp"):
            return guidance_image(neighbour, flow, self._rgb, self.guidance)

    def _rgb(self, latents: Tensor) -> Tensor:
        with self.stage("VAE decoder" if self.model.guidance_decoder is None else "small decoder"):
            return self.model.decode_guidance(latents)

    def _predict(self, timestep: int, noisy: Tensor, lr: Tensor, image: Tensor | None) -> Tensor:
        """The model's output for (B, 4, h, w) latents, with the TCM's residuals where there is a guidance image."""
        sample = self._sample(noisy[:, None], lr[:, None])
        return self._decode(self._encode(sample, timestep), sample, timestep, image)

    def _sample(self, noisy: Tensor, lr: Tensor) -> Tensor:
        """What UNet and TCM see of (S, F, ...) latents and LR frames: (F * S, 7, h, w), frame by frame."""
        both = torch.cat([noisy, lr], dim=2).transpose(0, 1).flatten(0, 1)
        return both.to(self.model.unet.dtype)

    def _encode(self, sample: Tensor, timestep: int) -> unet.Encoded:
        with self.stage("UNet down"):
            return unet.encode(self.model.unet, sample, timestep, self.model.prompt)

    def _decode(self, encoded: unet.Encoded, sample: Tensor, timestep: int, image: Tensor | None) -> Tensor:
        residuals = None
        if image is not None:
            with self.stage("TCM"):
                residuals = tcm.residuals(self.model.tcm, sample, timestep, self.model.prompt, image)
        with self.stage("UNet up"):
            return unet.decode(self.model.unet, encoded, self.model.prompt, residuals).float()


def _parts(count: int, length: int) -> list[slice]:
    """``count`` pieces of ``length`` of a batch."""
    return [slice(place * length, (place + 1) * length) for place in range(count)]


@torch.no_grad()
def decode_frames(model: ModelParts, latents: Tensor, stage: Stage = untimed) -> Iterator[Tensor]:
    """Decode finished latents (N, 4, h, w) one by one to float32 (3, 4h, 4w) in [0, 1]."""
    for latent in latents:
        with stage("VAE decoder"):
            image = (model.decode(latent[None])[0] / 2 + 0.5).clamp(0, 1)
        yield image


def to_uint8(image: Tensor) -> Frame:
    """An image (3, H, W) in [0, 1] as 8-bit frame (H, W, 3)."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
