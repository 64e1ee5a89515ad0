"""Low-resolution frames at another scale than 1/4, from ground truth: MATLAB-compatible bicubic.

    python ablations/scale.py GT OUT SCALE

GT holds ``sequence/frame.png``; OUT gets the same names. Height and width must be multiples of SCALE.
"""

import sys
from fractions import Fraction
from pathlib import Path

from stablevsr.data.frames import list_frames, list_sequences, read_frame, write_frame
from stablevsr.data.resizing import resize
from stablevsr.runtime.errors import UserError


def main(gt: Path, out: Path, scale: Fraction) -> None:
    for sequence in list_sequences(gt):
        for file in list_frames(sequence):
            frame = read_frame(file)
            height, width = (side / scale for side in frame.shape[:2])
            if height.denominator > 1 or width.denominator > 1:
                raise UserError(f"{file} is {frame.shape[1]}x{frame.shape[0]}, no multiples of {float(scale):g}")
            write_frame(out / sequence.name / f"{file.stem}.png", resize(frame, int(height), int(width)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Fraction(sys.argv[3]))
