"""The sampler: denoises the frames of sequences in the visit order of a strategy (:mod:`.strategies`).

Frame-wise bidirectional sampling (paper, section 4.3): each denoising step visits all frames before the next step
begins, every frame guided by the one visited just before it, and the direction turns after every step. The same loop
runs the other strategies, the paper's ablations. It takes several sequences at once from memory, or one clip of any
length whose latents, noise and flow are kept on disk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby, islice

import torch
from torch import Tensor

from stablevsr.data.frames import Frame
from stablevsr.method import tcm, unet
from stablevsr.method.finite import FiniteCheck, not_finite
from stablevsr.method.flow import FlowEstimator
from stablevsr.method.guidance import Flows, guidance_image
from stablevsr.method.networks import ModelParts
from stablevsr.method.noise import INITIAL, Draw, Sources, noise_of
from stablevsr.method.scheduler import MULTISTEP, Schedule
from stablevsr.method.settings import Guidance, Sampling
from stablevsr.method.stores import MainMemory, State, Store
from stablevsr.method.strategies import Visit
from stablevsr.method.visits import visits
from stablevsr.runtime.timing import Stage, untimed

Progress = Callable[[int], None]  #: called with the number of frame-steps just done
LR = Callable[[int], Tensor]  #: frame number -> that frame of S sequences, (S, 3, h, w) in [-1, 1]
#: LR pixels that go through the UNet's first half together: a frame of REDS, which keeps a GPU busy by itself. More
#: would need more memory (0.27 GB a frame of REDS in float32) and be no faster.
AT_ONCE = 320 * 180


class Sampler:
    """Samples the latents of sequences of one length and frame size.

    Args:
        model: the networks.
        sampling: strategy, solver, steps.
        guidance: how the TCM's image is made.
        estimator: optical flow, used by the strategies that have a neighbour.
        at_once: LR pixels in a batch of the UNet's first half; of the whole UNet where nothing is guided; 1 takes
            one frame at a time as the published code does. Results differ by rounding only.
        progress: called as frame-steps are done.
        stage: measures the stages: flow, warp, scheduler, and each network by name.
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
        self.progress = progress or (lambda _: None)

    def __call__(self, lr: Tensor, sources: Sources) -> Tensor:
        """Final scaled latents (S, N, 4, h, w) of LR frames (S, N, 3, h, w) in [-1, 1]; ``sources`` of noise."""
        sequences, frames = lr.shape[:2]
        if len(sources) != sequences:
            raise ValueError(f"{sequences} sequences need as many sources of noise, got {len(sources)}")
        lr, state = lr.to(self.model.device), State({})
        shape = (self.model.unet.config.out_channels, *lr.shape[-2:])
        noise = noise_of(sources, shape, self.sampling, frames, self.model.device)
        # both directions of a frame of REDS take 15 MB: too much for the GPU in clips of hundreds of frames
        self.run(frames, lambda frame: lr[:, frame], noise, state, MainMemory())
        return torch.stack([state.latent(self.sampling.steps, frame) for frame in range(frames)], dim=1)

    @torch.no_grad()
    def run(self, frames: int, lr: LR, noise: Draw, state: State, flows: Store, first: int = 0) -> None:
        """Sample ``frames`` frames from where ``state`` stopped; it then holds their finished latents.

        ``first`` is the number of the first frame in its clip, for messages. Raises :class:`UserError` that names
        network, frame and step where values are not finite, and ValueError if a run with a multistep solver is
        resumed: ``state`` does not hold the solver's history.
        """
        if state.done and self.sampling.scheduler in MULTISTEP:
            raise ValueError(f"scheduler {self.sampling.scheduler} keeps a history: a run cannot be resumed")
        check = FiniteCheck(self.sampling.steps, self.model.unet.dtype, first)
        _Run(self, lr, noise, state, Flows(lr, self.estimator, flows), check).visit_all(frames)


class _Run:
    """One run of a sampler over the visits of its strategy."""

    def __init__(self, sampler: Sampler, lr: LR, noise: Draw, state: State, flows: Flows, check: FiniteCheck) -> None:
        self.sampler, self.model, self.stage = sampler, sampler.model, sampler.stage
        self.lr, self.noise, self.state, self.flows, self.check = lr, noise, state, flows, check
        self.sampling, self.guidance = sampler.sampling, sampler.guidance
        self._done = state.done
        self._schedules: dict[int, Schedule] = {}
        self._kept: tuple[tuple[int, int], Tensor] | None = None  # a finished neighbour's image, with its pair

    def visit_all(self, frames: int) -> None:
        """Make all remaining visits, a few frames of one step at a time."""
        if self._done == 0:
            for frame in range(frames):
                self.state.start(frame, self.noise(INITIAL, frame).to(self.model.device))
        count = max(1, self.sampler.at_once // self.lr(0)[:, 0].numel())
        left = islice(visits(self.sampling, frames), self._done, None)
        for step, group in groupby(left, key=lambda visit: visit.step):
            while some := list(islice(group, count)):
                self._visit(step, some)
                self.check.settle()
        self.check.settle(everything=True)

    def _visit(self, step: int, some: list[Visit]) -> None:
        """Several frames of one step: through the UNet's first half together, and without guidance through all of it.

        With guidance, the second half waits for the image of the neighbour, which is often the visit just before.
        """
        timestep = self._schedule(some[0].frame).timesteps[step]
        noisy = torch.cat([self.state.latent(step, visit.frame) for visit in some])
        lr = torch.cat([self.lr(visit.frame) for visit in some])
        sample = torch.cat([noisy, lr], dim=1).to(self.model.unet.dtype)
        with self.stage("UNet down"):
            encoded = unet.encode(self.model.unet, sample, timestep, self.model.prompt)
        sequences = len(noisy) // len(some)
        together = 1 if any(visit.neighbour is not None for visit in some) else len(some)
        for first in range(0, len(some), together):
            part = slice(first * sequences, (first + together) * sequences)
            visited = some[first : first + together]
            predicted = self._predict(encoded.part(part), sample[part], timestep, visited)
            latents = zip(torch.split(noisy[part], sequences), torch.split(predicted, sequences), strict=True)
            for visit, (before, output) in zip(visited, latents, strict=True):
                self._step(visit, before, output)

    def _predict(self, encoded: unet.Encoded, sample: Tensor, timestep: int, visited: list[Visit]) -> Tensor:
        """The UNet's output (B, 4, h, w), with the TCM's residuals where there is a guidance image."""
        image, residuals = self._guidance_image(visited[0]), None
        step, frames = visited[0].step, [visit.frame for visit in visited]
        if image is not None:
            with self.stage("TCM"):
                residuals = tcm.residuals(self.model.tcm, sample, timestep, self.model.prompt, image)
            self.check.watch("TCM", step, frames, *residuals[0], residuals[1])
        with self.stage("UNet up"):
            predicted = unet.decode(self.model.unet, encoded, self.model.prompt, residuals).float()
        self.check.watch("UNet", step, frames, predicted)
        return predicted

    def _step(self, visit: Visit, noisy: Tensor, predicted: Tensor) -> None:
        """Step one frame; store its new latent and what will guide its neighbours (x̂0 or x_t)."""
        with self.stage("scheduler"):
            schedule = self._schedule(visit.frame)
            noise = self.noise(visit.step, visit.frame).to(noisy) if schedule.stochastic else None
            latent = schedule.step(visit.step, noisy, predicted, noise)
            guide = noisy if self.guidance.source == "xt" else schedule.clean(visit.step, noisy, predicted)
        self.check.watch("noise scheduler", visit.step, [visit.frame], latent, guide)
        self._done += 1
        self.state.finish(visit.step, visit.frame, latent, guide, self._done)
        self.sampler.progress(len(latent))

    def _schedule(self, frame: int) -> Schedule:
        """One for all frames, or one a frame where the solver keeps a history from step to step."""
        key = frame if self.sampling.scheduler in MULTISTEP else 0
        if key not in self._schedules:
            self._schedules[key] = Schedule(self.model.scheduler, self.sampling.scheduler, self.sampling.steps)
        return self._schedules[key]

    def _guidance_image(self, visit: Visit) -> Tensor | None:
        """The TCM's image for a visit; that of a finished neighbour is computed once for all steps of a frame."""
        if visit.neighbour is None:
            return None
        if not visit.finished:
            return self._compensated(self.state.guide(visit.neighbour), visit, visit.neighbour)
        pair = (visit.frame, visit.neighbour)
        if self._kept is None or self._kept[0] != pair:
            latents = self.state.latent(self.sampling.steps, visit.neighbour)
            self._kept = pair, self._compensated(latents, visit, visit.neighbour)
        return self._kept[1]

    def _compensated(self, latents: Tensor, visit: Visit, source: int) -> Tensor:
        """The guidance image (S, 3, 4h, 4w) of a visit from the latents of frame ``source`` (eq. 7)."""
        flow, seen = torch.empty(0), (visit.step, [visit.frame])
        if self.guidance.needs_flow:
            with self.stage("flow"):
                flow = self.flows.between(visit.frame, source)
            self.check.watch("optical flow", *seen, flow)

        # latents that are compensated before they are decoded show the visit's own frame
        shown = visit.frame if self.guidance.motion_compensation == "latent" else source

        def rgb(latents: Tensor) -> Tensor:
            network = "VAE decoder" if self.model.guidance_decoder is None else "small decoder"
            with self.stage(network):
                image = self.model.decode_guidance(latents, self.lr(shown))
            self.check.watch(network, *seen, image)
            return image

        with self.stage("warp"):
            return guidance_image(latents, flow, rgb, self.guidance)


@torch.no_grad()
def decode_frames(model: ModelParts, latents: Tensor, stage: Stage = untimed, first: int = 0) -> Iterator[Tensor]:
    """Decode finished latents (N, 4, h, w) one by one to float32 (3, 4h, 4w) in [0, 1].

    Raises :class:`UserError` where an image is not finite; ``first`` is the number of the first frame, for the message.
    """
    for frame, latent in enumerate(latents, first):
        with stage("VAE decoder"):
            image = model.decode(latent[None])[0]
        if not bool(image.isfinite().all()):
            raise not_finite("VAE decoder", f"frame {frame}", model.vae.dtype)
        yield (image / 2 + 0.5).clamp(0, 1)


def to_uint8(image: Tensor) -> Frame:
    """An image (3, H, W) in [0, 1] as 8-bit frame (H, W, 3)."""
    return (image * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().cpu().numpy()
