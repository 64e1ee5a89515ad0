"""The repository's studies, and a copy of them to edit, for the tests of studies."""

from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]


def edit(path, change):
    content = yaml.safe_load(path.read_text())
    change(content)
    path.write_text(yaml.safe_dump(content, sort_keys=False))
