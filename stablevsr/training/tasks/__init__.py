"""What can be trained: one module for each network, with its loss, its data and its validation.

A module of :data:`TRAINING_KINDS` has a function ``build(inputs) -> TrainingTask``; :mod:`.vae` is for the tiny base
model only.
Modules are imported by name when they are needed: a change in one kind's code does not change another's fingerprint.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stablevsr.training.task import TaskInputs, TrainingTask

#: Kinds of training in a study (module names), with what people call the network.
TRAINING_KINDS = {"unet": "UNet", "tcm": "TCM", "decoder": "small decoder"}
_FILE = "diffusion_pytorch_model.safetensors"
#: For each kind, its weight file relative to the training's output folder.
WEIGHTS = {"unet": f"unet/{_FILE}", "tcm": _FILE, "decoder": _FILE}


def build(kind: str, inputs: TaskInputs) -> TrainingTask:
    """The task of a kind of training."""
    task: TrainingTask = import_module(f"{__name__}.{kind}").build(inputs)
    return task
