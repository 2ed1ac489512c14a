import pytest
from PIL import Image

from pocket_diffusers.eval.figures.lines import Chart, Line, draw_charts, draw_lines

AXES = ("steps", "share")


def test_lines_are_drawn_whole_or_not_at_all(tmp_path):
    lines = [Line("ours", (1, 10), (0.2, 0.6), ((0.1, 0.3), (0.5, 0.7))), Line("rival", (1, 10), (0.2, 0.4))]
    path = draw_lines(tmp_path / "new" / "lines.png", "Title", AXES, lines, log=(True, False))
    with Image.open(path) as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 20)}
    assert (0xD1, 0x49, 0x5B) in colors and (0x2E, 0x40, 0x57) in colors
    assert [file.name for file in path.parent.iterdir()] == ["lines.png"]


def test_charts_stand_side_by_side_each_with_its_own_lines(tmp_path):
    left = Chart("Left", AXES, [Line("ours", (1, 10), (0.2, 0.6))], log=(True, True))
    right = Chart("Right", AXES, [Line("ours", (1,), (0.2,)), Line("rival", (1, 2, 3), (0.2, 0.4, 0.1))])
    with Image.open(draw_charts(tmp_path / "charts.png", [left, right])) as both:
        colors = [{color for _, color in half.getcolors(1 << 20)} for half in _halves(both.convert("RGB"))]
    with Image.open(draw_charts(tmp_path / "one.png", [left])) as one:
        assert both.size == (2 * one.width, one.height)
    ours, rival = (0xD1, 0x49, 0x5B), (0x2E, 0x40, 0x57)
    assert ours in colors[0] and ours in colors[1] and rival in colors[1] and rival not in colors[0]


def _halves(picture):
    middle = picture.width // 2
    return picture.crop((0, 0, middle, picture.height)), picture.crop((middle, 0, *picture.size))


@pytest.mark.parametrize("charts", [[], [Chart("a", AXES, [Line("a", (1,), (1,))]), Chart("b", AXES, [])]])
def test_charts_without_lines_are_refused(tmp_path, charts):
    with pytest.raises(ValueError, match="needed is at least one of each"):
        draw_charts(tmp_path / "charts.png", charts)


@pytest.mark.parametrize(
    "lines", [[], [Line("a", (), ())], [Line("a", (1, 2), (1,))], [Line("a", (1, 2), (1, 2), ((0, 1),))]]
)
def test_lines_without_points_are_refused(tmp_path, lines):
    with pytest.raises(ValueError, match="needed"):
        draw_lines(tmp_path / "lines.png", "Title", AXES, lines)
    assert not any(tmp_path.iterdir())


def test_what_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        draw_lines(tmp_path / "file" / "lines.png", "Title", AXES, [Line("a", (1,), (1,))])
