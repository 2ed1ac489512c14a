"""The layout of HumanML3D, in a folder made here: clips, their spans, sentences, statistics, and what is refused."""

import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from damaged_files import damaged

from pocket_diffusers.training.datasets.humanml3d import Caption, HumanML3D, read_captions

REPOSITORY = Path(__file__).parents[3]
LENGTHS = {"000001": 120, "000002": 39, "000003": 40, "M000004": 199, "000005": 200, "000006": 100}
TEXTS = {
    "000001": "a man walks.#a/DET man/NOUN walk/VERB#0.0#0.0\n"
    "he turns #1 left#he/PRON turn/VERB left/ADV#2.0#5.05\n\n"
    "he walks on#he/PRON walk/VERB on/ADV#nan#nan\n"
    "he stops#he/PRON stop/VERB#3.5#99\n"
    "he waits#he/PRON wait/VERB#1.0#2.5\n",
    "000002": "too short#too/ADV short/ADJ#0.0#0.0\n",
    "000003": "just long enough#just/ADV#0.0#0.0\n",
    "M000004": "as long as it gets#as/ADV#0.0#0.0",
    "000005": "too long#too/ADV#0.0#0.0\npart of it#part/NOUN#0.0#4.0\n",
    "000006": "only a span#only/ADV#1.0#4.0\n",
}


@pytest.fixture
def folder(tmp_path):
    chance = np.random.default_rng(0)
    for name in ("new_joint_vecs", "texts"):
        (tmp_path / name).mkdir()
    for clip, length in LENGTHS.items():
        features = chance.normal(size=(length, 263))
        np.save(
            tmp_path / "new_joint_vecs" / f"{clip}.npy", features.astype(np.float64 if length == 40 else np.float32)
        )
        (tmp_path / "texts" / f"{clip}.txt").write_text(TEXTS[clip])
    (tmp_path / "train.txt").write_text("\n".join(LENGTHS) + "\n")
    (tmp_path / "val.txt").write_text("000003\n")
    return tmp_path


def motion_of(folder, clip):
    return np.load(folder / "new_joint_vecs" / f"{clip}.npy").astype(np.float32)


def test_records_are_clips_and_their_spans(folder):
    records = HumanML3D(folder)
    spans = {
        "000001": (0, 120), "A_000001": (40, 101), "B_000001": (70, 120), "000003": (0, 40), "M000004": (0, 199),
        "A_000006": (20, 80),
    }  # fmt: skip
    assert [record["name"] for record in records] == list(spans)
    assert [record["index"] for record in records] == list(range(len(records))) == list(range(6))
    assert records.left_out == ("C_000001", "000002", "000005")
    for record in records:
        start, stop = spans[record["name"]]
        motion = motion_of(folder, record["name"].rpartition("_")[2])
        assert record["features"].dtype == np.float32 and record["length"] == stop - start
        np.testing.assert_array_equal(record["features"], motion[start:stop])
        assert record["caption"] == record["captions"][0] and len(record["captions"]) == len(record["tokens"])


def test_sentences_and_their_words(folder):
    whole, turn, stop, *_, span = HumanML3D(folder)
    assert whole["captions"] == ["a man walks.", "he walks on"]
    assert whole["tokens"] == [["a/DET", "man/NOUN", "walk/VERB"], ["he/PRON", "walk/VERB", "on/ADV"]]
    assert turn["captions"] == ["he turns #1 left"] and stop["caption"] == "he stops"
    assert span["captions"] == ["only a span"] and span["tokens"] == [["only/ADV"]]
    assert read_captions(folder / "texts" / "000006.txt") == [Caption("only a span", ("only/ADV",), 20, 80)]


def test_splits(folder):
    assert [record["name"] for record in HumanML3D(folder, "validation")] == ["000003"]
    with pytest.raises(ValueError, match="split must be one of train, validation, test, not 'val'"):
        HumanML3D(folder, "val")
    with pytest.raises(FileNotFoundError, match=r"test\.txt is missing"):
        HumanML3D(folder, "test")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", r"000003\.txt must hold at least one line caption#words#start#end, but is empty\."),
        ("a man walks", r"line 1 of .*000003\.txt must be caption#words#start#end .*, not 'a man walks'\."),
        ("a#b#0.0", r"line 1 of .* not 'a#b#0\.0'\."),
        ("#b#0.0#0.0", r"line 1 of "),
        ("a#b#0.0#end", r"line 1 of "),
        ("a#b#0.0#0.0\n \na#b#-1.0#3.0", r"line 3 of "),
        ("a#b#0.0#inf", r"line 1 of "),
        ("a#b#0.0#1e308", r"line 1 of "),
        ("x" * 10**6, r"000003\.txt must be at most 100000 bytes, not 1000000\."),
        ("\n".join(["a#b#0.0#2.0"] * 27), r"000003\.txt must tell of at most 26 spans, not 27\."),
    ],
)
def test_texts_that_are_refused(folder, line, message):
    (folder / "texts" / "000003.txt").write_text(line)
    with pytest.raises(ValueError, match=message) as error:
        HumanML3D(folder, "validation")
    assert len(str(error.value)) < 400


def test_folders_that_are_refused(folder):
    def refuse(message, split="validation"):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            HumanML3D(folder, split)

    motion, text = folder / "new_joint_vecs" / "000003.npy", folder / "texts" / "000003.txt"
    text.write_bytes(b"\xff\xfe")
    refuse(r"000003\.txt is no text in UTF-8\.")
    text.unlink()
    refuse(r"000003\.txt is missing\.")
    np.save(motion, np.zeros((50, 251), np.float32))
    refuse(r"000003\.npy must have the shape \[frames, 263\], not \[50, 251\]\.")
    motion.unlink()
    refuse(r"000003\.npy is missing\.")
    for names, message in (
        ("", r"val\.txt must list at least one clip and none twice\."),
        ("000003\n000003", r"val\.txt must list at least one clip and none twice\."),
        ("../texts/000003", r"val\.txt must list names of clips such as 000021, not '\.\./texts/000003'\."),
    ):
        (folder / "val.txt").write_text(names)
        refuse(message)


def test_motions_that_change_or_are_not_finite(folder):
    records = HumanML3D(folder, "validation")
    file = folder / "new_joint_vecs" / "000003.npy"
    np.save(file, np.zeros((39, 263), np.float32))
    with pytest.raises(ValueError, match=r"000003\.npy must have as many frames as when the split was opened"):
        records[0]
    np.save(file, np.full((40, 263), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"000003\.npy must be finite"):
        records[0]


def test_thousand_damaged_folders_are_read_whole_or_refused(folder):
    (folder / "train.txt").write_text("000001\n000003\n")
    files = [folder / "new_joint_vecs" / "000003.npy", folder / "texts" / "000001.txt", folder / "train.txt"]
    whole = {file: file.read_bytes() for file in files}
    found = Counter()
    for seed in range(1000):
        file = files[seed % 3]
        file.write_bytes(damaged(whole[file], np.random.default_rng(seed)))
        try:
            for record in HumanML3D(folder):
                assert record["features"].shape == (record["length"], 263) and 40 <= record["length"] <= 199
                assert np.isfinite(record["features"]).all() and all(record["captions"])
            found[file.name, "read"] += 1
        except (ValueError, FileNotFoundError) as error:
            assert "\n" not in str(error) and str(folder) in str(error)
            found[file.name, "refused"] += 1
        file.write_bytes(whole[file])
    assert len(found) == 6 and min(found.values()) > 10


def test_real_split_lists(folder):
    real = Path(os.environ.get("POCKET_DATA", REPOSITORY / ".." / "shared" / "data"), "motion")
    if not real.is_dir():
        pytest.skip("HumanML3D's lists are not here: set POCKET_DATA to the folder that holds motion/")
    for name, count in (("train", 23384), ("val", 1460), ("test", 4384)):
        clips = (real / f"{name}.txt").read_text().split()
        assert len(clips) == count
        shutil.copy(real / f"{name}.txt", folder / f"{name}.txt")
        with pytest.raises(FileNotFoundError, match=rf"{next(clip for clip in clips if clip not in LENGTHS)}\.npy is"):
            HumanML3D(folder, "validation" if name == "val" else name)
