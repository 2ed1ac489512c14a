"""A grid of tiny pictures where the tarot cards would be, and a clock for tests."""

from itertools import count

import numpy as np
import pytest
from PIL import Image

from pocket_diffusers.eval.claims.lightspeed import timed_fits
from pocket_diffusers.eval.claims.lightspeed.card_fits import CARDS


@pytest.fixture
def cards(tmp_path, monkeypatch):
    """3 x 3 pictures of 16 x 16 pixels, of which that in the middle is held out."""
    folder = tmp_path / "data" / CARDS
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    draw = np.random.default_rng(0)
    picture = draw.integers(0, 256, (20, 20, 3), np.uint8)
    for row in range(3):
        for column in range(3):
            view = picture[row : row + 16, column : column + 16]
            Image.fromarray(view).save(folder / f"view_r{row:02d}_c{column:02d}.png")
    monkeypatch.setenv("POCKET_DATA", str(tmp_path / "data"))
    return folder


@pytest.fixture
def ticks(monkeypatch):
    """A clock of fits that goes on by one whenever somebody looks at it."""
    clock = count()
    monkeypatch.setattr(timed_fits, "process_time", lambda: float(next(clock)))
