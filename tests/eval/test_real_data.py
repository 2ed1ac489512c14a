import pytest

from pocket_diffusers.eval.benchmark import MissingData
from pocket_diffusers.eval.real_data import real_data


def test_a_file_is_found_where_pocket_data_says_or_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("POCKET_DATA", str(tmp_path))
    with pytest.raises(MissingData, match=r"a\.txt is missing: set POCKET_DATA to a folder with there/a\.txt of Ann\."):
        real_data("there/a.txt", "Ann")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.txt").write_text("")
    assert real_data("there/a.txt", "Ann") == tmp_path / "there" / "a.txt"
