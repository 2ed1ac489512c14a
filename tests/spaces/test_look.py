"""What all Spaces share, and `pocket demo`."""

import os
import re
import socket
import stat
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest

from pocket_diffusers.cli import main

pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")

SPACES = Path(__file__).resolve().parents[2] / "spaces"


def test_importing_the_look_writes_nothing_beside_it():
    import pocket_diffusers.spaces.look as look  # gradio writes a .pyi for each class of components

    assert not list(Path(look.__file__).parent.rglob("*.pyi"))


def test_spaces_is_no_package_of_its_own():
    assert not (SPACES / "__init__.py").exists(), "it would hide the library of that name"


def test_unknown_method_and_taken_port(capsys):
    assert main(["demo", "snapgn"]) == 2
    assert "nearest: 'snapgen'" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["demo", "snapgen", "--port", str(port)]) == 2
    sentence = f"Error: port {port} cannot be used (address already in use): choose another with --port.\n"
    assert capsys.readouterr().err == sentence


def test_weights_that_are_not_there(capsys, tmp_path):
    assert main(["demo", "snapgen", "--model", str(tmp_path / "nowhere")]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_old_results_are_removed(monkeypatch, tmp_path):
    from PIL import Image

    from pocket_diffusers.spaces import look

    folder = tmp_path / "private"
    folder.mkdir()
    monkeypatch.setattr(look, "_private_folder", lambda: folder)
    monkeypatch.setattr(look, "KEPT_RESULTS", 3)
    pictures = [(Image.new("RGB", (2, 2)), "Ein Würfel / rot")]
    made = [look.keep_pictures(pictures, [{"seed": number}]) for number in range(5)]
    assert len(list((folder / "results").iterdir())) == 3
    assert Path(made[-1][0]).name == "ein-w-rfel-rot.png" and Image.open(made[-1][0]).text == {"seed": "4"}


KEEP = """
import gradio
from PIL import Image

from pocket_diffusers.spaces import look

with look.page("Title", "It does something."):
    gallery = gradio.Gallery()
(kept,) = look.keep_pictures([(Image.new("RGB", (2, 2)), "red")], [{"seed": 1}])
print(kept, gallery.GRADIO_CACHE, sep="\\n")
input()
"""


@pytest.mark.skipif(os.name != "posix", reason="modes of folders are those of POSIX")
def test_each_process_has_a_folder_of_its_own_that_nobody_else_reads_and_no_link_leads_to(tmp_path):
    from pocket_diffusers.spaces import look

    shared, victim = tmp_path / "shared", tmp_path / "victim"
    shared.mkdir()
    for number in range(100):
        (victim / f"precious-{number}").mkdir(parents=True)
    for name in ("pocket-diffusers-space", "gradio"):  # what another user of the machine may have put there
        (shared / name).symlink_to(victim)
    environment = {**os.environ, "TMPDIR": str(shared), "HF_HUB_OFFLINE": "1"}
    environment.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, "-c", KEEP]
    with subprocess.Popen(command, stdin=-1, stdout=-1, text=True, env=environment) as process:
        kept, uploads = (Path(process.stdout.readline().strip()) for _ in range(2))
        folder = kept.parents[2]
        assert kept.is_file() and folder.parent == shared and uploads == folder / "gradio"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert folder.name != look._private_folder().name
        process.communicate("\n")
    assert process.returncode == 0 and not folder.exists()
    assert len(list(victim.iterdir())) == 100
    assert sorted(path.name for path in shared.iterdir()) == ["gradio", "pocket-diffusers-space"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_uploads_of_every_mode_are_read_and_reduced(tmp_path, mode):
    from PIL import Image

    from pocket_diffusers.spaces.look import read_upload

    Image.new(mode, (3000, 1500)).save(tmp_path / ("a.tif" if mode == "CMYK" else "a.png"))
    picture = read_upload(str(next(tmp_path.iterdir())))
    assert picture.size == (1024, 512)
    assert picture.mode in ("L", "RGB", "RGBA") or mode == "I;16"


def test_uploads_stand_upright(tmp_path):
    from PIL import Image

    from pocket_diffusers.spaces.look import read_upload

    exif = Image.Exif()
    exif[274] = 6  # the camera was turned
    Image.new("RGB", (40, 20)).save(tmp_path / "a.jpg", exif=exif)
    assert read_upload(str(tmp_path / "a.jpg")).size == (20, 40)


def test_uploads_that_cannot_be_read(tmp_path, monkeypatch):
    from PIL import Image

    from pocket_diffusers.spaces.look import read_upload

    path = tmp_path / "a.png"
    Image.effect_noise((64, 64), 50).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 4000)
    with pytest.raises(ValueError, match="Image has more than 4,000 pixels: make it smaller first"):
        read_upload(str(path))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="Image has more than 1,000 pixels"):
        read_upload(str(path))
    monkeypatch.undo()
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="Digit is damaged: "):
        read_upload(str(path), "Digit")
    path.write_text("no picture")
    with pytest.raises(ValueError, match="Image is no picture that can be read: use a PNG, JPEG, WebP or GIF file"):
        read_upload(str(path))


def test_complaints_name_files_as_visitors_do(tmp_path, monkeypatch):
    from gradio import Error

    from pocket_diffusers.spaces import look

    monkeypatch.setattr(look, "_private_folder", lambda: tmp_path / "private")
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    complaints = {
        f"cannot write {tmp_path}/private/results/tmp1/my scene.ply: no space.": "Cannot write my scene.ply: no space.",
        f"{tmp_path}/uploads/0a1b/scene.ply is truncated.": "scene.ply is truncated.",
        f"{tempfile.gettempdir()}/pocket-1/03_05.png must be smaller.": "03_05.png must be smaller.",
        "/srv/other is missing.": "/srv/other is missing.",
    }
    for raised, said in complaints.items():
        with pytest.raises(Error) as error, look.friendly_errors():
            raise ValueError(raised)
        assert error.value.message == said


def test_demo_serves_until_it_is_stopped():
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-m", "pocket_diffusers.cli", "demo", "snapgen"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path.home()) as process:
        try:
            address = next(filter(None, (re.search(r"Open (http\S+)", line) for line in process.stdout))).group(1)
            assert "SnapGen" in urllib.request.urlopen(address).read().decode()
        finally:
            process.terminate()
