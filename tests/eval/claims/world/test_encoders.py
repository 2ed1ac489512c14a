from dataclasses import replace

import pytest

from pocket_diffusers.eval.claims.world.benchmark import BENCHMARK
from pocket_diffusers.eval.instruments.clip import ImageTextEncoder
from pocket_diffusers.eval.scores.retrieval import to_pictures, unambiguous_groups, world_records


def test_rows_are_the_shares_of_pictures_and_captions_that_find_each_other(checkpoints, tmp_path):
    settings = replace(BENCHMARK.settings, checkpoints=checkpoints, groups=1, group_size=6, picture_size=16)
    rows = {row.id: row for row in BENCHMARK.measure("retrieval", tmp_path, settings)}
    (group,) = unambiguous_groups(world_records("test", 16), 1, 6)
    assert len(rows) == 4
    for name in ("clip-nano", "clip-nano-judge"):
        encoder = ImageTextEncoder.from_folder(checkpoints / name)
        pictures = encoder.encode_images(to_pictures(group))
        texts = encoder.encode_texts([record.caption for record in group])
        for way, near in (("image-to-text", pictures @ texts.T), ("text-to-image", texts @ pictures.T)):
            right = sum(int(near[i].argmax()) == i for i in range(6))
            assert rows[f"{name}-{way}"].measured == pytest.approx(right / 6, abs=1e-5)
            assert rows[f"{name}-{way}"].n == 6


def test_an_encoder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        BENCHMARK.run(["retrieval"], tmp_path / "out", replace(BENCHMARK.settings, checkpoints=tmp_path))
    assert not (tmp_path / "out").exists()
