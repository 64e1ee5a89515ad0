"""Training states: weights, optimiser, EMA and step, written atomically, so that a killed run can resume."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from stablevsr.runtime.errors import DamagedError, UserError
from stablevsr.runtime.io import open_sealed, sealed_file, write_text

HistoryRow = dict[str, float]  #: one logged step of a history


class EMA:
    """Exponential moving average of the weights, with the usual warm-up of the decay; does nothing for decay 0."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.weights = {k: v.detach().clone() for k, v in model.state_dict().items()} if decay else {}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights after one more step."""
        self.count += 1
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        for key, value in model.state_dict().items() if self.weights else ():
            self.weights[key].lerp_(value, 1 - decay)

    def copy_to(self, model: nn.Module) -> None:
        """Put the average into ``model``; nothing happens for decay 0."""
        if self.weights:
            model.load_state_dict(self.weights)


def save(
    folder: Path, step: int, model: nn.Module, optimizer: Any, ema: EMA, scaler: Any, history: list[HistoryRow],
    identity: dict[str, Any],
) -> None:  # fmt: skip
    """Write the state after ``step`` steps into ``folder``, replacing the one before.

    ``scaler`` is the loss scale of a training in fp16 (torch's ``GradScaler``), None in other precisions.
    """
    content = {
        "step": step,
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": ema.weights,
        "average_count": ema.count,
        "loss_scale": scaler.state_dict() if scaler else {},
        "history": history,
    }
    write_text(folder / "identity.json", json.dumps(identity, indent=1, sort_keys=True))
    with sealed_file(_file(folder)) as stream:  # in memory the state of a full-size UNet would take 5.7 GB more
        torch.save(content, stream)


def restore(folder: Path, model: nn.Module, optimizer: Any, ema: EMA, scaler: Any) -> tuple[int, list[HistoryRow]]:
    """Load the state in ``folder`` into the other arguments; returns step and history, (0, []) if there is none.

    A damaged state counts as none, and a message says so.
    """
    if not _file(folder).exists():
        return 0, []
    try:
        with open_sealed(_file(folder)) as stream:
            content = torch.load(stream, map_location="cpu", weights_only=True)
    except DamagedError as error:
        print(f"{error}: the training starts over", file=sys.stderr)
        return 0, []
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    device = next(model.parameters()).device
    ema.weights = {key: value.to(device) for key, value in content["average"].items()}
    ema.count = content["average_count"]
    if scaler and content["loss_scale"]:
        scaler.load_state_dict(content["loss_scale"])
    return int(content["step"]), list(content["history"])


def check_identity(folder: Path, identity: dict[str, Any]) -> None:
    """Raise :class:`UserError` that names the difference if the state in ``folder`` was made by another training."""
    file = folder / "identity.json"
    if not file.exists():
        return
    now = json.loads(json.dumps(identity))
    try:
        before = dict(json.loads(file.read_bytes()))
    except (ValueError, TypeError):  # damaged; the folder's name holds the identity's digest too
        return
    changed = sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key))
    if changed:
        key = changed[0]
        raise UserError(
            f"the training state in {folder} was made with {key}={before.get(key)!r}, this run has {now.get(key)!r}: "
            f"remove that folder to start over"
        )


def write_history(history: list[HistoryRow], path: Path) -> None:
    """Write the loss history as CSV: one row a logged step, empty cells where nothing was measured."""
    write_text(path, pd.DataFrame(history).to_csv(index=False, lineterminator="\n"))


def _file(folder: Path) -> Path:
    return folder / "state.pt"
