"""What made a result: hashes of weights and of the code that decides numbers."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]
#: The modules whose text decides what frames look like: inputs of the rules, hashed into the mark of every sequence.
FRAME_CODE = (
    "baselines.py", "decoding.py", "diffusion.py", "guidance.py", "inference.py", "models.py", "motion.py",
    "order.py", "pipeline.py", "sampling.py", "small_decoder.py", "tcm.py", "unet.py", "data/degradation.py",
    "data/frames.py",
)  # fmt: skip
#: ... what a trained TCM holds (beside the modules it shares with sampling),
TRAINING_CODE = (
    "training/loop.py", "training/pool.py", "training/run.py", "training/samples.py", "training/state.py",
    "training/targets.py", "training/tcm.py", "training/unet.py", "decoding.py", "diffusion.py", "guidance.py",
    "models.py", "motion.py", "tcm.py",
)  # fmt: skip
#: ... or a small decoder,
DECODER_CODE = (*TRAINING_CODE, "training/distillation.py", "small_decoder.py")
_NO_SCORES = ("statistics", "bench", "plain")
#: ... and what the scores are.
METRIC_CODE = (
    *(f"metrics/{p.name}" for p in sorted((PACKAGE / "metrics").glob("*.py")) if p.stem not in _NO_SCORES),
    "motion.py",
)
#: What tables, figures and page are rendered by.
REPORT_CODE = (
    "metrics/statistics.py",
    *(
        str(p.relative_to(PACKAGE))
        for p in sorted((PACKAGE / "report").rglob("*"))
        if p.suffix in (".py", ".html", ".css", ".js")
    ),
)


def sources(names: tuple[str, ...]) -> list[str]:
    """Paths of the package's files, as inputs of a rule."""
    return [str(PACKAGE / name) for name in names]


def embedded_weights() -> list[str]:
    """The tiny model's base weights (its TCM is trained by the study), as inputs of a rule."""
    return [str(PACKAGE / "assets" / "tiny" / part / "diffusion_pytorch_model.safetensors") for part in ("unet", "vae")]


@lru_cache(maxsize=8)
def source_hash(names: tuple[str, ...] = FRAME_CODE) -> str:
    """sha256 over the text of modules of this package."""
    total = hashlib.sha256()
    for name in names:
        total.update((PACKAGE / name).read_bytes())
    return total.hexdigest()


def folder_hash(folder: Path) -> str:
    """sha256 over the configuration and weights in a diffusers folder."""
    total = hashlib.sha256()
    for file in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        if file.name in ("provenance.json",):  # says when and where, not what
            continue
        total.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()
