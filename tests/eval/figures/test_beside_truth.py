"""A sheet of pictures and their truths."""

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.figures.beside_truth import draw_beside_truth


def test_pictures_stand_above_their_truths(tmp_path):
    pictures, truths = torch.zeros(3, 3, 2, 4), torch.ones(3, 3, 2, 4)
    pictures[1, 0], truths[2, 2] = 1.5, 0.2  # red, beyond white; and yellow
    with Image.open(draw_beside_truth(tmp_path / "new" / "sheet.png", pictures, truths)) as sheet:
        pixels = np.array(sheet)
    assert pixels.shape == (4, 12, 3)
    assert pixels[0, 4].tolist() == [255, 0, 0] and pixels[0, 3].tolist() == [0, 0, 0]
    assert pixels[2, 8].tolist() == [255, 255, 51] and pixels[3, 7].tolist() == [255, 255, 255]


def test_truths_of_another_shape_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"alike, not \[1, 3, 2, 4\] and \[1, 3, 2, 2\]"):
        draw_beside_truth(tmp_path / "a.png", torch.zeros(1, 3, 2, 4), torch.zeros(1, 3, 2, 2))
    assert not list(tmp_path.iterdir())
