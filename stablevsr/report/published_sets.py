"""Which of a study's test sets are published ones, so that scores on them can be compared with published scores."""

from __future__ import annotations

from collections.abc import Collection

from stablevsr.study.files import Dataset

PUBLISHED_DEGRADATION = "BIx4"  #: MATLAB's bicubic, with which the paper's LR frames were made


def is_published_set(spec: Dataset, sequences: Collection[str] | None = None) -> bool:
    """Whether a test set is all of the published one, in the folders of its layout, with the published degradation.

    ``sequences``: the names of all published sequences where they are known; a test set that lists them all is whole.
    """
    if spec.layout == "plain" or spec.degradation != PUBLISHED_DEGRADATION:
        return False  # a person's own clips, or others' LR frames
    whole = spec.sequences is None or (sequences is not None and set(spec.sequences) == set(sequences))
    return whole and spec.make is None and spec.split == "test" and spec.every == 1 and spec.frames is None
