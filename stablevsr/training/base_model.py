"""Making the embedded tiny model: VAE and UNet, each in two trainings, the decoder once more on samples, then the TCM.

``stablevsr train base`` runs this from random initial weights. The architectures, the noise schedule and the tokenizer
are read from ``stablevsr/assets/tiny`` (docs/tiny-model.md). Weights are stored as float16 and loaded as float32.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch.utils.data import DataLoader, Subset

from stablevsr.data.frames import open_image
from stablevsr.data.layouts import Clip
from stablevsr.method import tcm
from stablevsr.method.loading import load_prompt
from stablevsr.method.model_folder import TINY
from stablevsr.method.pipeline import load_networks
from stablevsr.method.scheduler import Schedule
from stablevsr.method.settings import Guidance, Training
from stablevsr.runtime.errors import UserError
from stablevsr.training.denoising import DenoisingTask
from stablevsr.training.loop import accelerator_for, train
from stablevsr.training.perceptual import PerceptualLoss
from stablevsr.training.samples import WindowDataset
from stablevsr.training.state import write_history
from stablevsr.training.task import LoopSettings
from stablevsr.training.tasks.tcm_start import SecondViewTask
from stablevsr.training.tasks.unet import UNetTask
from stablevsr.training.tasks.unet_perceptual import PerceptualUNetTask
from stablevsr.training.tasks.vae import DecoderTask, ImageTask, VAETask

#: The trainings in their order; crops in pixels of the ground truth.
RECIPES: dict[str, dict[str, Any]] = {
    "vae": dict(seed=1, steps=6000, batch=16, crop=128, learning_rate=1.5e-3, warmup_steps=200, ema=0.999),
    "vae_perceptual": dict(seed=11, steps=2000, batch=16, crop=128, learning_rate=8e-4, warmup_steps=100, ema=0.998),
    "unet": dict(seed=2, steps=5000, batch=32, crop=128, learning_rate=8e-4, warmup_steps=300, ema=0.9995),
    "unet_perceptual": dict(seed=12, steps=500, batch=16, crop=128, learning_rate=4e-4, warmup_steps=100, ema=0.998),
    "decoder": dict(seed=13, steps=250, batch=8, crop=192, learning_rate=4e-4, warmup_steps=20, ema=0.99),
    "tcm": dict(
        seed=14,
        steps=1000,
        batch=16,
        crop=128,
        learning_rate=4e-4,
        learning_rate_new=4e-3,
        warmup_steps=50,
        weight_decay=1e-2,
    ),
}
#: Sampling steps of the latents that the decoder learns from; each crop draws one of them.
DECODER_STEPS = (6, 10)
#: Of the TCM's last conditioning convolution. With 0.02 the loss begins to fall about 120 steps later.
CONDITIONING_INIT = 0.4


@dataclass
class BaseTraining:
    """The trainings of a base model on ``clips``, each of which resumes from its folder below ``state``.

    ``steps`` replaces those of :data:`RECIPES`; ``held_out`` clips are looked at, and measured, during the trainings.
    """

    clips: Sequence[Clip]
    held_out: Sequence[Clip]
    out: Path
    state: Path
    steps: dict[str, int]
    device: str = "cpu"
    done: dict[str, Any] = field(default_factory=dict)  #: scenes and settings of the trainings so far, kept in a state

    def __post_init__(self) -> None:
        """Raise :class:`UserError` for clips without LR frames, and for held-out clips smaller than a crop."""
        for clip in (*self.clips, *self.held_out):
            if not clip.lr:
                raise UserError(
                    f"clip {clip.name} has no LR frames: put them into lr/{clip.name}, beside gt/{clip.name}"
                )
        crop = max(recipe["crop"] for recipe in RECIPES.values())
        for clip in self.held_out:
            if _side(clip) < crop:
                raise UserError(f"the validation clip {clip.name} is smaller than {crop}x{crop} pixels: leave it out")

    def run(self) -> None:
        """Write the model folder ``out``."""
        self.done["scenes"] = {clip.name: len(clip.gt) for clip in self.clips}
        _write_untrained_parts(self.out)
        perceptual = PerceptualLoss()  # here, so that missing weights are reported before anything is trained
        vae = _random_weights(AutoencoderKL, "vae")
        for stage, distance in (("vae", None), ("vae_perceptual", perceptual)):
            vae_task = VAETask(vae, self.crops(stage), distance)
            self.train(vae_task, stage)
        vae.register_to_config(scaling_factor=1.0 / latent_std(vae, self.crops("vae")))
        vae_task.save(self.out)
        unet = _random_weights(UNet2DConditionModel, "unet")
        noise, prompt = DDPMScheduler.load_config(TINY / "scheduler"), load_prompt(self.out).to(self.device)
        parts = (unet, copy.deepcopy(vae).bfloat16(), DDPMScheduler.from_config(noise), prompt)
        self.train(UNetTask(*parts, self.crops("unet")), "unet")
        unet_task = PerceptualUNetTask(*parts, self.crops("unet_perceptual"), perceptual=perceptual)
        self.train(unet_task, "unet_perceptual")
        unet_task.save(self.out)
        schedules = [Schedule(dict(noise), "ddpm", steps) for steps in DECODER_STEPS]
        decoder_task = DecoderTask(vae, unet, prompt, self.crops("decoder"), perceptual, schedules)
        self.train(decoder_task, "decoder")
        decoder_task.save(self.out)
        tcm_task = self.tcm_task()
        self.train(tcm_task, "tcm")
        tcm_task.save(self.out / "controlnet")
        for part in ("vae", "unet", "text_encoder", "controlnet"):
            store_as_half(self.out / part)

    def tcm_task(self) -> SecondViewTask:
        """The training of a TCM on the finished VAE and UNet."""
        networks = load_networks(self.out, self.device, with_tcm=False)
        torch.manual_seed(RECIPES["tcm"]["seed"])
        module = tcm.from_unet(networks.unet, CONDITIONING_INIT).to(self.device)
        return SecondViewTask(module, networks, Training(), Guidance(), None, self.crops("tcm"))

    def crops(self, stage: str) -> WindowDataset:
        """Single frames, cropped, for one training; of the clips with frames as large as its crops.

        Raises :class:`UserError` if there is none.
        """
        crop = RECIPES[stage]["crop"]
        large = [clip for clip in self.clips if _side(clip) >= crop]
        if not large:
            raise UserError(f"no training clip has frames of {crop}x{crop} pixels or more, the crops of stage {stage}")
        return WindowDataset(large, 1, crop, RECIPES[stage]["seed"])

    def train(self, task: ImageTask | DenoisingTask, stage: str) -> None:
        """Run or resume one training; a finished one only loads its result."""
        recipe = RECIPES[stage] | {"steps": self.steps.get(stage, RECIPES[stage]["steps"])}
        # on a CPU a step takes seconds; on a GPU a tenth of one or less, so it must not wait for crops
        on_cpu = self.device == "cpu"
        pace = dict(precision="bf16", workers=0, save_every=100) if on_cpu else dict(workers=8)
        common = dict(schedule="warmup_cosine", weight_decay=1e-3) | pace
        settings = LoopSettings(**(common | recipe))
        self.done[stage] = settings.model_dump()
        print(f"{stage}: {settings.steps} steps", flush=True)
        task.hold_out(self.held_out, 1, settings.crop, torch.device(self.device))
        accelerator = accelerator_for(settings.precision, self.device)
        outcome = train(task, settings, self.state / stage, self.done, accelerator)
        write_history(outcome.history, self.out / f"{stage}_history.csv")


def _side(clip: Clip) -> int:
    """The smaller side of a clip's frames in pixels."""
    with open_image(clip.gt[0]) as image:
        return min(image.size)


def _write_untrained_parts(out: Path) -> None:
    """The scheduler, the tokenizer, and a text encoder with random weights, because the prompt is always empty."""
    from transformers import CLIPTextConfig, CLIPTextModel

    for part in ("scheduler", "tokenizer"):
        shutil.copytree(TINY / part, out / part, dirs_exist_ok=True)
    shutil.copy(TINY / "model_index.json", out)
    torch.manual_seed(0)
    CLIPTextModel(CLIPTextConfig.from_pretrained(TINY / "text_encoder")).save_pretrained(out / "text_encoder")


def _random_weights(kind: Any, part: str) -> Any:
    """A network of the embedded model's architecture with random weights."""
    torch.manual_seed(0)
    return kind.from_config(kind.load_config(TINY / part))


@torch.no_grad()
def latent_std(vae: AutoencoderKL, windows: WindowDataset, count: int = 256) -> float:
    """Standard deviation of the latents over training crops; its inverse becomes the VAE's scaling factor."""
    latents = [
        vae.encode(batch["gt"][:, 0].to(vae.device) * 2 - 1).latent_dist.mode()
        for batch in DataLoader(Subset(windows, range(count)), batch_size=16)
    ]
    return float(torch.cat(latents).std())


def store_as_half(folder: Path) -> None:
    """Rewrite a folder's safetensors in float16."""
    from safetensors.torch import load_file, save_file

    for file in folder.glob("*.safetensors"):
        weights = {key: value.half() for key, value in load_file(file).items()}
        save_file(weights, file.with_suffix(".part"), metadata={"format": "pt"})
        shutil.move(file.with_suffix(".part"), file)


def steps_by_stage(texts: Sequence[str]) -> dict[str, int]:
    """``["unet=10"]`` as ``{"unet": 10}``; raises :class:`UserError` for an unknown stage or no number."""
    steps = {}
    for text in texts:
        stage, _, number = text.partition("=")
        if stage not in RECIPES or not number.isdigit() or int(number) < 1:
            raise UserError(f"--steps {text}: expected STAGE=STEPS, where STAGE is one of {', '.join(RECIPES)}")
        steps[stage] = int(number)
    return steps
