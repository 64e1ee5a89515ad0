"""The networks of a study's method, pruned and trained again for a short time, and the frames that they make.

    python ablations/pruning.py train STUDY PERCENT NETWORKS
    python ablations/pruning.py sample STUDY DATASET NETWORKS OUT

``train`` prunes PERCENT of the UNet, which then learns to predict what the whole UNet does. The usual loss would change
what the UNet learned with other losses, and the scores would show that too. Then the TCM is pruned and trained for that
UNet as the study trains its TCM. NETWORKS gets ``unet/`` and ``controlnet/``, with the history of each training.
``sample`` samples as the study's method does, from the same noise. OUT gets ``sequence/frame.png``, OUT.json the
seconds.
"""

from __future__ import annotations

import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from stablevsr.method.dtypes import DTYPES
from stablevsr.method.model_folder import find_model
from stablevsr.method.pipeline import StableVSRPipeline
from stablevsr.method.settings import Sampling
from stablevsr.runtime.devices import device_of
from stablevsr.runtime.hashing import digest
from stablevsr.runtime.torch_settings import configure_torch
from stablevsr.study.fingerprint import script_code
from stablevsr.study.inference import NetworkPaths, Pipelines, Shard, infer
from stablevsr.study.methods import TrainingRun
from stablevsr.study.paths import Paths
from stablevsr.study.prepare import open_dataset
from stablevsr.study.resolve import load_study
from stablevsr.study.training import loop_settings
from stablevsr.training.cached_samples import CachedSamples, cache_samples
from stablevsr.training.loop import accelerator_for, train
from stablevsr.training.pruning import load_pruned, prune
from stablevsr.training.state import write_history
from stablevsr.training.task import Sample, TaskInputs, TrainingTask
from stablevsr.training.tasks import tcm, unet

METHOD = "stablevsr"
UNET_STEPS = 1000  #: of its training after pruning; all other settings are those of the TCM's


class PrunedUNetTask(unet.UNetTask):
    """A pruned UNet learns to predict what the whole one does, on the data of the task of that one."""

    def __init__(self, whole: unet.UNetTask, share: float) -> None:
        pruned = deepcopy(whole.model)
        prune(pruned, share)
        super().__init__(pruned, whole.vae, whole.scheduler, whole.prompt, whole.data)
        whole.model.eval().requires_grad_(False)
        self.whole, self.held_out, self.sample_latents = whole, whole.held_out, whole.sample_latents

    def errors(self, sample: Sample, **how: Any) -> Tensor:
        """Squared differences (B, 4, h, w) from the whole UNet's prediction on frozen samples."""
        with torch.no_grad():
            _, target = self.whole.predict(sample)
        return F.mse_loss(self.predict(sample)[1].float(), target.float(), reduction="none")


class Recovery:
    """The trainings of pruned networks, on the data and with the settings of ``run``, a TCM's training."""

    def __init__(self, run: TrainingRun, paths: Paths, share: float, out: Path) -> None:
        self.run, self.share, self.out = run, share, out
        self.accelerator = accelerator_for(run.settings.precision, device_of(paths.study.spec.device))
        self.device, self.model = self.accelerator.device, find_model(paths.model(run.base))
        spec = run.dataset.validation
        self.clips = open_dataset(run.dataset, paths.low_resolution(run.dataset))
        self.held_out = open_dataset(spec, paths.low_resolution(spec)) if spec else []
        self.key = digest([run.digest, share, script_code(Path(__file__))])
        self.state = paths.external() / "pruning" / "states" / self.key  # which `stablevsr clean` keeps

    def recover_unet(self) -> None:
        """Prune and train the UNet, and write it into ``out/unet``."""
        whole = unet.load(TaskInputs(self.model, self.run.settings, self.clips, self.held_out, self.device))
        task = PrunedUNetTask(whole, self.share)
        self._train(task, "unet", UNET_STEPS)
        task.save(self.out)

    def recover_tcm(self) -> None:
        """Prune the TCM and train it with the UNet of ``out/unet``, and write it into ``out/controlnet``."""
        settings = self.run.settings
        task = tcm.build(TaskInputs(self.model, settings, self.clips, [], self.device))
        prune(task.model, self.share)
        task.frozen.unet = load_pruned("unet", self.out / "unet", DTYPES[settings.precision]).to(self.device)
        task.hold_out(self.held_out, tcm.WINDOW, settings.crop, self.device)
        if cached := settings.model_dump()["cached_samples"]:
            file = self.state / "samples" / "samples.safetensors"
            cache_samples(task, cached, settings.seed, file, self.key)
            task.data = CachedSamples(file, task.settings.neighbour == "both", settings.seed)
        self._train(task, "controlnet", settings.steps)
        task.save(self.out / "controlnet")

    def _train(self, task: TrainingTask, part: str, steps: int) -> None:
        settings = loop_settings(self.run).model_copy(update={"steps": steps})
        outcome = train(task, settings, self.state / part, {"training": self.key}, self.accelerator)
        write_history(outcome.history, self.out / part / "history.csv")


class PrunedPipelines(Pipelines):
    """Loads pruned networks from the folder of ``networks.tcm``."""

    def load(self, networks: NetworkPaths, sampling: Sampling) -> StableVSRPipeline:
        """The pipeline with the pruned UNet and TCM."""
        assert networks.tcm is not None
        configure_torch(sampling.tf32)
        parts = {part: load_pruned(part, networks.tcm / part, DTYPES[sampling.precision])
                 for part in ("unet", "controlnet")}  # fmt: skip
        return StableVSRPipeline.from_pretrained(
            networks.model,
            device=networks.device,
            precision=sampling.precision,
            tile=sampling.tile,
            guidance_decoder=networks.decoder,
            weights=sampling.weights,
            **parts,
        )


def train_networks(study_name: str, share: float, out: Path) -> None:
    """Prune and train both networks."""
    study = load_study(study_name)
    run = study.methods[METHOD].training
    assert run is not None
    configure_torch(run.settings.tf32)
    recovery = Recovery(run, Paths(study), share, out)
    recovery.recover_unet()
    recovery.recover_tcm()


def sample(study_name: str, dataset: str, folder: Path, out: Path) -> None:
    """The frames of a data set."""
    study = load_study(study_name)
    paths, form = Paths(study), study.methods[METHOD].on(dataset)
    assert form.base is not None
    networks = NetworkPaths(
        paths.model(form.base),
        device_of(study.spec.device),
        folder,
        paths.training(form.decoder) if form.decoder else None,
    )
    lr, manifest = paths.dataset(dataset) / "lr", out.with_name(f"{out.name}.json")
    infer(form, Shard(dataset, lr), form.run, out, manifest, networks, study.spec.batch, PrunedPipelines())


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train_networks(sys.argv[2], int(sys.argv[3]) / 100, Path(sys.argv[4]))
    else:
        sample(sys.argv[2], sys.argv[3], Path(sys.argv[4]), Path(sys.argv[5]))
