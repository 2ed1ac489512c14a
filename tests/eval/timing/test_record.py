import json
from dataclasses import dataclass

import pytest

from pocket_diffusers.eval.timing.record import Record, record_date


@dataclass(frozen=True)
class One:
    name: str
    seconds: float


def test_what_was_measured_in_the_same_way_is_read_back(tmp_path):
    path, found = tmp_path / "new" / "record.json", [One("a", 1.5), One("b", 2.0)]
    record = Record(path, {"repeats": 3}, threads=2)
    assert record.read(One) == []
    record.write(found)
    assert Record(path, {"repeats": 3}, threads=2).read(One) == found
    for other in (Record(path, {"repeats": 4}, threads=2), Record(path, {"repeats": 3}, threads=1)):
        assert other.read(One) == []
    stored = json.loads(path.read_text())
    assert list(stored) == ["date", "repeats", "hardware", "versions", "measurements"]
    assert "on 2 threads" in stored["hardware"] and stored["versions"]["torch"]
    assert [file.name for file in path.parent.iterdir()] == ["record.json"]


@pytest.mark.parametrize("content", ["[]", "{", "{}", '{"repeats": 3}'])
def test_another_file_is_no_record(tmp_path, content):
    (tmp_path / "record.json").write_text(content)
    with pytest.raises(ValueError, match="record.json is no record of a run: delete it or choose another output"):
        Record(tmp_path / "record.json", {"repeats": 3}).read(One)


def test_a_record_tells_its_date(tmp_path):
    path = tmp_path / "run.json"
    path.write_text('{"date": "2025-01-31", "measurements": []}')
    assert record_date(path) == "2025-01-31"
    path.write_text("{}")
    with pytest.raises(ValueError, match="is no record of a run"):
        record_date(path)
