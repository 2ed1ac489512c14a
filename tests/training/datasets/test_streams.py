"""Batches: their order, resume and sharing out, of indices and of every kind of stream."""

import io
import json
import tarfile
from functools import partial
from itertools import islice

import datasets
import pytest
import torch
from PIL import Image

from pocket_diffusers.training.datasets import bad_rows, captioned_images
from pocket_diffusers.training.datasets.bad_rows import SkippedRows
from pocket_diffusers.training.datasets.captioned_images import captioned_picture
from pocket_diffusers.training.datasets.streams import open_stream, shuffled_batches, streamed_batches

COUNT = 12


def picture(number: int) -> Image.Image:
    return Image.new("RGB", (20, 16), (20 * number, 255 - 20 * number, 7))


def number_of(pixels) -> int:
    return round((pixels[0].mean().item() + 1) * 127.5 / 20)


@pytest.fixture
def image_folder(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(COUNT):
        picture(number).save(folder / f"{number}.png")
    lines = [json.dumps({"file_name": f"{i}.png", "text": f"picture {i}", "alt": f"other {i}"}) for i in range(COUNT)]
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return str(folder)


def write_shards(folder, count, caption="picture {}"):
    folder.mkdir(parents=True)
    for shard in range(count):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for number in range(shard, COUNT, count):
                file = io.BytesIO()
                picture(number).save(file, format="PNG")
                for suffix, content in (("png", file.getvalue()), ("txt", caption.format(number).encode())):
                    member = tarfile.TarInfo(f"{number:03d}.{suffix}")
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    return str(folder / "*.tar")


@pytest.fixture(params=["image folder", "two shards", "three shards"])
def source(request, tmp_path):
    if request.param == "image folder":
        return request.getfixturevalue("image_folder")
    return write_shards(tmp_path / "shards", {"two": 2, "three": 3}[request.param.split()[0]])


def take(batches, count, start=0, rank=0, world=1):
    return list(islice(batches(start, rank, world), count))


def stream(source, batch_size, seed=0, caption_column="text", **options):
    read = partial(captioned_picture, size=8, caption_column=caption_column)
    return streamed_batches(source, read, batch_size, seed, **options)


def captions_of(batches):
    return [caption for _, captions in batches for caption in captions]


# Indices


def naive_order(count, batch_size, seed, rank, world, batches):
    """Index by index: position p of the global sequence is item p % count of epoch p // count."""
    orders, result = {}, []
    for batch in range(batches):
        positions = range((batch * world + rank) * batch_size, (batch * world + rank + 1) * batch_size)
        for epoch in {position // count for position in positions} - orders.keys():
            generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            orders[epoch] = torch.randperm(count, generator=generator).tolist()
        result.append([orders[position // count][position % count] for position in positions])
    return result


@pytest.mark.parametrize(("count", "batch_size", "world"), [(10, 4, 1), (10, 4, 3), (3, 8, 2), (7, 7, 1)])
def test_indices_come_in_the_order_of_their_naive_twin(count, batch_size, world):
    for rank in range(world):
        found = take(shuffled_batches(count, batch_size, seed=5), 9, rank=rank, world=world)
        assert [batch.tolist() for batch in found] == naive_order(count, batch_size, 5, rank, world, 9)


@pytest.mark.parametrize("micro_steps", [1, 3])
def test_indices_resume_where_they_stopped(micro_steps):
    batches = shuffled_batches(11, 2, 0, micro_steps)
    whole = take(batches, 12, rank=1, world=2)
    assert torch.equal(torch.stack(whole[2 * micro_steps :][:3]), torch.stack(take(batches, 3, 2, rank=1, world=2)))


def test_ranks_share_an_epoch_out():
    seen = [take(shuffled_batches(12, 2, 0), 3, rank=rank, world=2) for rank in (0, 1)]
    assert sorted(torch.cat(seen[0] + seen[1]).tolist()) == list(range(12))


# Streams


def test_a_stream_pairs_pictures_with_their_captions_and_tells_all(source):
    batches = take(stream(source, 4, seed=0), 3)
    for pixels, captions in batches:
        assert pixels.shape == (4, 3, 8, 8) and pixels.dtype == torch.float32
        assert captions == [f"picture {number_of(image)}" for image in pixels]
    assert sorted(captions_of(batches)) == sorted(f"picture {i}" for i in range(COUNT))


def test_a_stream_resumes_where_it_stopped(source):
    whole = captions_of(take(stream(source, 5, seed=0), 7))
    for start in (0, 1, 3, 5):
        resumed = stream(source, 5, seed=0)
        assert captions_of(take(resumed, 2, start)) == whole[5 * start : 5 * start + 10]
    in_micro_steps = stream(source, 5, seed=0, micro_steps=2)
    assert captions_of(take(in_micro_steps, 1, 2)) == whole[20:25]


def test_a_stream_gives_processes_different_pictures(source):
    seen = [captions_of(take(stream(source, 2, seed=0), 3, rank=r, world=2)) for r in (0, 1)]
    assert sorted(seen[0] + seen[1]) == sorted(f"picture {i}" for i in range(COUNT))


def test_epochs_and_seeds_differ_in_order(source):
    orders = [captions_of(take(stream(source, COUNT, seed=s), 2)) for s in (0, 0, 1)]
    assert orders[0] == orders[1] != orders[2]
    assert orders[0][:COUNT] != orders[0][COUNT:]


def test_columns_can_be_named(image_folder):
    ((_, captions),) = take(stream(image_folder, 3, seed=0, caption_column="alt"), 1)
    assert all(caption.startswith("other") for caption in captions)


def test_a_hub_id_is_streamed_undecoded(monkeypatch):
    asked = {}

    def load_dataset(*names, **options):
        asked.update(names=names, **options)
        rows = datasets.Dataset.from_dict({"image": [picture(3)], "text": ["a"]})
        return rows.cast_column("image", datasets.Image()).to_iterable_dataset()

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    row = next(iter(open_stream("someone/pictures", "validation")))
    assert asked == {"names": ("someone/pictures",), "split": "validation", "streaming": True}
    assert row["image"]["bytes"].startswith(b"\x89PNG")


@pytest.mark.parametrize("source", ["nowhere/shards/*.tar", "/nowhere/at/all", "./nowhere"])
def test_a_local_source_that_is_not_there_is_missed_at_once(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nowhere"):
        stream(source, 2, seed=0)


def test_rows_that_cannot_be_used_are_told(image_folder, tmp_path):
    with pytest.raises(ValueError, match=r"no 'words'; its columns are image, text, alt"):
        take(stream(image_folder, 2, seed=0, caption_column="words"), 1)
    with pytest.raises(ValueError, match="holds no rows for process 12 of 13"):
        take(stream(image_folder, 2, seed=0), 1, rank=12, world=13)
    for number in range(COUNT):
        (tmp_path / "pictures" / f"{number}.png").write_bytes(b"no picture")
    with pytest.raises(OSError, match=r"\.png' of the source cannot be read"):
        take(stream(image_folder, 2, seed=0), 1)


def spoil(folder, *numbers):
    for number in numbers:
        (folder / f"{number}.png").write_bytes(b"no picture")


@pytest.mark.parametrize("batch_size", [1, 5])
def test_the_place_of_a_bad_row_is_taken_by_the_next_good_one(batch_size, image_folder, tmp_path):
    whole = captions_of(take(stream(image_folder, batch_size), 20))
    spoil(tmp_path / "pictures", 3, 4, 11)
    bad, skipped = {"picture 3", "picture 4", "picture 11"}, SkippedRows()
    found = captions_of(take(stream(image_folder, batch_size, skipped=skipped), 15))
    naive = [next(caption for caption in whole[place:] if caption not in bad) for place in range(15 * batch_size)]
    assert found == naive
    if batch_size == 5:  # more than an epoch
        assert len(skipped) == 3 and all("cannot be read" in reason for reason in skipped.reasons.values())
        assert {key.rpartition("/")[2] for key in skipped.reasons} == {"3.png'", "4.png'", "11.png'"}
        assert skipped.sentence().startswith("Skipped 3 bad rows, such as row of '")


def test_a_run_that_skips_resumes_where_it_stopped(image_folder, tmp_path):
    spoil(tmp_path / "pictures", 0, 1, 2, 5, 8)
    whole = captions_of(take(stream(image_folder, 2, skipped=SkippedRows()), 12))
    for start in (1, 2, 5, 8):
        assert captions_of(take(stream(image_folder, 2, skipped=SkippedRows()), 3, start)) == whole[2 * start :][:6]


def test_a_source_of_bad_rows_is_at_fault(image_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(bad_rows, "PATIENCE", 30)
    spoil(tmp_path / "pictures", *range(COUNT))
    with pytest.raises(OSError, match="30 rows after one another are bad; the last is row of"):
        take(stream(image_folder, 2, skipped=SkippedRows()), 1)


def test_a_row_without_caption_is_named_or_skipped(tmp_path):
    source = write_shards(tmp_path / "shards", 2)
    with tarfile.open(tmp_path / "shards" / "0.tar", "a") as tar:
        file = io.BytesIO()
        picture(3).save(file, format="PNG")
        member = tarfile.TarInfo("silent.png")
        member.size = len(file.getvalue())
        tar.addfile(member, io.BytesIO(file.getvalue()))
    with pytest.raises(ValueError, match=r"^sample 'silent' of '.*0.tar': a row of the source has no 'text'"):
        take(stream(source, 13), 1)
    skipped = SkippedRows()
    captions = captions_of(take(stream(source, 13, skipped=skipped), 1))
    assert set(captions) == {f"picture {i}" for i in range(COUNT)} and len(captions) == 13
    assert list(skipped.reasons) == [f"sample 'silent' of '{tmp_path}/shards/0.tar'"]


def test_a_row_without_a_name_is_found_by_its_number():
    assert bad_rows.key_of({"text": "a"}, 7) == "row 7 in this run's order"


def test_the_shuffle_buffer_holds_rows_not_pictures(image_folder, monkeypatch):
    decoded, real = [], captioned_images.picture
    monkeypatch.setattr(captioned_images, "picture", lambda *a: decoded.append(1) or real(*a))
    take(stream(image_folder, 2, seed=0), 1, start=3)
    assert len(decoded) <= 4, "rows that a resumed run has seen must not be decoded"


def test_a_damaged_shard_is_named_or_skipped(tmp_path):
    source = write_shards(tmp_path / "shards", 2)
    (tmp_path / "shards" / "0.tar").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"^shard '.*/0.tar': it is damaged"):
        take(stream(source, 7), 1)
    skipped = SkippedRows()
    assert set(captions_of(take(stream(source, 7, skipped=skipped), 2))) == {f"picture {i}" for i in range(1, COUNT, 2)}
    assert list(skipped.reasons) == [f"shard '{tmp_path}/shards/0.tar'"]
