"""The loss history as TensorBoard scalars, where somebody wants to watch a long training from a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from stablevsr.runtime.errors import UserError
from stablevsr.training.state import Row


def writer(folder: Path) -> Callable[[Row], None]:
    """What writes a row of the history below ``folder``. Raises :class:`UserError` without the tensorboard package."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise UserError("--tensorboard needs a package: pip install -c requirements.lock tensorboard") from error
    board = SummaryWriter(str(folder))

    def write(row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                board.add_scalar(name, value, int(row["step"]))
        board.flush()

    return write
