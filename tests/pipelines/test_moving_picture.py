"""GIF and MP4 files, read back by others."""

import sys

import numpy as np
import pytest
from PIL import Image, ImageSequence

from pocket_diffusers.pipelines.moving_picture import can_write_mp4, write_gif, write_mp4


@pytest.fixture(scope="module")
def frames():
    """A bright square that crosses a grey picture."""
    pictures = np.full((12, 48, 64, 3), (90, 100, 110), np.uint8)
    for index, picture in enumerate(pictures):
        picture[16:32, 4 * index : 4 * index + 16] = (250, 60, 30)
    return pictures


def test_a_gif_plays_at_the_rate_and_shows_the_frames(frames, tmp_path):
    assert write_gif(tmp_path / "a.gif", frames, 20) == tmp_path / "a.gif"
    picture = Image.open(tmp_path / "a.gif")
    assert picture.info["loop"] == 0 and picture.info["duration"] == 50
    shown = np.stack([np.asarray(frame.convert("RGB")) for frame in ImageSequence.Iterator(picture)])
    assert shown.shape == frames.shape
    assert np.abs(shown.astype(int) - frames).max() <= 4


def test_an_mp4_plays_at_the_rate_and_shows_the_frames(frames, tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg", reason="MP4 needs the extra 'train'")
    assert can_write_mp4() and write_mp4(tmp_path / "a.mp4", frames, 20) == tmp_path / "a.mp4"
    reader = ffmpeg.read_frames(str(tmp_path / "a.mp4"))
    facts = next(reader)
    assert facts["fps"] == 20 and facts["size"] == (64, 48) and "yuv420p" in facts["pix_fmt"]
    assert facts["codec"] == "h264"
    shown = np.stack([np.frombuffer(frame, np.uint8).reshape(48, 64, 3) for frame in reader])
    assert shown.shape == frames.shape
    assert np.abs(shown.astype(int) - frames).mean() < 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_without_ffmpeg_the_extra_is_named(frames, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    assert not can_write_mp4()
    with pytest.raises(ImportError, match="an MP4 needs imageio-ffmpeg, which comes with the extra 'train'"):
        write_mp4(tmp_path / "a.mp4", frames, 20)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_gif, write_mp4])
def test_a_file_that_cannot_be_written_leaves_nothing(frames, tmp_path, write):
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match="cannot write .*a"):
        write(tmp_path / "a", frames, 20)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
