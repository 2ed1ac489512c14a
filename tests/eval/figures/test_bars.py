import pytest
from PIL import Image

from pocket_diffusers.eval.figures.bars import Bar, Panel, draw_costs

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

PANELS = [
    Panel("seconds", [Bar("ours", 1.0, (0.9, 1.2)), Bar("a rival", 4.0), Bar("another", None)]),
    Panel("memory", [Bar("ours", 2.0), Bar("a rival", 1.0), Bar("another", None)]),
]


def test_the_longest_bar_is_the_largest_value(tmp_path):
    path = draw_costs(tmp_path / "new" / "costs.png", "What it costs", PANELS)
    with Image.open(path) as picture:
        pixels = picture.convert("RGB")
    left = pixels.crop((0, 0, pixels.width // 2, pixels.height))
    counts = {color: count for count, color in left.getcolors(maxcolors=2**24)}
    ours, rival = counts[0xD1, 0x49, 0x5B], counts[0x8D, 0x99, 0xAE]
    assert rival == pytest.approx(4 * ours, rel=0.1)
    assert path.stat().st_size < 200_000
    assert [file.name for file in path.parent.iterdir()] == ["costs.png"]


def test_what_cannot_be_drawn_is_said(tmp_path):
    for panels in ([], [Panel("empty", [])]):
        with pytest.raises(ValueError, match="needed is at least one panel, each with at least one bar"):
            draw_costs(tmp_path / "costs.png", "", panels)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        draw_costs(tmp_path / "file" / "costs.png", "", PANELS)
