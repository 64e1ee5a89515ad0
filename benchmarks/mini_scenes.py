"""Choose the film scenes of the mini data by a fixed rule, before any method has seen them, and print them as a table.

    python benchmarks/mini_scenes.py FILM.mp4

The rule. The film is cut into shots where a frame differs from the one before by more than 8 grey levels on average
and by more than three times what is usual around it. Shots before 297 s are for training, from there to 397 s for
validation, from there to 490 s (the credits) for testing. A shot counts if it has at least 20 frames, if the mean
optical flow (DIS, at 640x360) around its middle lies between 0.5 and 8 pixels a frame, and if its middle frame is
unlike that of every shot chosen before (a mean difference of at least 25 grey levels). The test shots go to the REDS-
like and the Vimeo-like set in turn, in order of time. A clip lies around the middle of its shot; its crop is the
window, on a grid of 16 by 8 pixels, whose middle frame has the largest mean gradient, so that there is detail to
restore.
"""

import sys
from itertools import cycle, pairwise

import av
import cv2
import numpy as np

SMALL = (96, 54)
SIDES = {"reds": (256, 256), "vimeo": (144, 192), "val": (256, 256)}
SPANS = {"train": (0, 297), "val": (297, 397), "test": (397, 490)}
FPS = 24


def thumbnails(film):
    """All frames at 96x54, uint8 (N, 54, 96, 3)."""
    with av.open(film) as container:
        container.streams.video[0].thread_type = "AUTO"
        return np.stack(
            [f.reformat(*SMALL, format="rgb24").to_ndarray() for f in container.decode(container.streams.video[0])]
        )


def shots(frames):
    """(first, one past the last) frame of every shot."""
    grey = frames.mean(axis=-1, dtype=np.float32)
    change = np.concatenate([[0.0], np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))])
    cuts = [0]
    for i in range(1, len(change)):
        around = (
            np.median(np.concatenate([change[max(1, i - 8) : i], change[i + 1 : i + 9]])) if i + 1 < len(change) else 0
        )
        if change[i] > 8 and change[i] > 3 * around + 4 and change[i] == change[max(0, i - 3) : i + 4].max():
            cuts.append(i)
    return list(zip(cuts, [*cuts[1:], len(frames)], strict=True))


def read(container, first, stop):
    """Frames [first, stop) at 640x360, uint8 RGB."""
    stream = container.streams.video[0]
    container.seek(int(max(0, first - 1) / FPS / stream.time_base), stream=stream)
    found = []
    for frame in container.decode(stream):
        number = round(float(frame.pts * stream.time_base) * FPS)
        if number >= stop:
            break
        if number >= first:
            found.append(frame.reformat(640, 360, format="rgb24").to_ndarray())
    return found


def motion(images):
    """Mean flow in pixels a frame."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in images]
    return float(np.mean([np.linalg.norm(dis.calc(a, b, None), axis=-1).mean() for a, b in pairwise(grey)]))


def best_window(image, height, width):
    """(top, left) of the window with the largest mean gradient."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = np.hypot(np.diff(grey, axis=1)[:-1], np.diff(grey, axis=0)[:, :-1])
    places = [(top, left) for top in range(0, 361 - height, 8) for left in range(0, 641 - width, 16)]
    return max(places, key=lambda p: gradient[p[0] : p[0] + height, p[1] : p[1] + width].mean())


def main(film):
    frames = thumbnails(film)
    sides, chosen = cycle(("reds", "vimeo")), []
    with av.open(film) as container:
        for first, stop in shots(frames):
            side = next((s for s, (a, b) in SPANS.items() if a * FPS <= first and stop <= b * FPS + 1), None)
            middle = (first + stop) // 2
            thumb = frames[middle].astype(np.float32)
            if side is None or stop - first < 20 or any(np.abs(thumb - t).mean() < 25 for t in chosen):
                continue
            images = read(container, middle - 3, middle + 4)
            moved = motion(images)
            if not 0.5 <= moved <= 8:
                continue
            chosen.append(thumb)
            use = next(sides) if side == "test" else side
            crop = best_window(images[3], *SIDES[use]) if use in SIDES else ""
            print(use, first, stop, middle, f"{moved:.2f}", crop, flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
