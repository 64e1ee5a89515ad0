"""Average every frame with its two neighbours: what a method without any idea of motion can do for consistency.

    python ablations/temporal_filter.py FRAMES OUT

FRAMES holds ``sequence/frame.png``; OUT gets the same names. At the ends of a sequence two frames are averaged.
"""

import sys
from pathlib import Path

import numpy as np

from stablevsr.data.frames import list_frames, read_frame, write_frame


def main(frames: Path, out: Path) -> None:
    for sequence in sorted(folder for folder in frames.iterdir() if folder.is_dir() and folder.name[0] != "."):
        files = list_frames(sequence)
        video = np.stack([read_frame(file) for file in files]).astype(np.float32)
        for i, file in enumerate(files):
            mean = video[max(i - 1, 0) : i + 2].mean(axis=0)
            write_frame(out / sequence.name / file.name, np.rint(mean).astype(np.uint8))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
