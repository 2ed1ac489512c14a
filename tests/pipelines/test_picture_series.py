"""Pictures of one scene as files."""

from PIL import Image

from pocket_diffusers.pipelines.picture_series import SHEET_FRAMES, save_series


def test_each_picture_is_a_file_and_all_of_them_play(tmp_path):
    colours = [(20 * index, 255 - 20 * index, 90) for index in range(12)]
    told = []
    save_series((Image.new("RGB", (30, 20), colour) for colour in colours), tmp_path, told.append)
    names = [f"frame_{index:04d}.png" for index in range(12)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [*names, "sheet.png", "turntable.webp"]
    assert [Image.open(tmp_path / name).getpixel((3, 3)) for name in names] == colours and told == [1] * 12
    with Image.open(tmp_path / "turntable.webp") as film:
        assert film.n_frames == 12 and film.size == (30, 20)
    sheet = Image.open(tmp_path / "sheet.png").convert("RGB")
    shown = {colour for _, colour in sheet.getcolors(sheet.width * sheet.height)} & set(colours)
    assert len(shown) == SHEET_FRAMES
