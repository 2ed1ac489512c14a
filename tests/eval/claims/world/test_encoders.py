from dataclasses import replace
from itertools import islice

import pytest

from pocket_diffusers.eval.claims.world.benchmark import BENCHMARK
from pocket_diffusers.eval.instruments.clip import ImageTextEncoder
from pocket_diffusers.eval.scores.retrieval import to_pictures, unambiguous_groups, world_records


def test_rows_are_the_shares_of_pictures_and_captions_that_find_each_other(checkpoints, tmp_path):
    settings = replace(BENCHMARK.settings, checkpoints=checkpoints, groups=1, group_size=6, picture_size=16)
    rows = {row.id: row for row in BENCHMARK.measure("retrieval", tmp_path, settings)}
    (group,) = unambiguous_groups(world_records("test", 16), 1, 6)
    plain = list(islice(world_records("test", 16), 6))
    assert len(rows) == 8 and len({record.caption for record in plain}) == 6
    for name in ("clip-nano", "clip-nano-judge"):
        encoder = ImageTextEncoder.from_folder(checkpoints / name)
        for suffix, shown in (("", group), ("-plain", plain)):
            pictures = encoder.encode_images(to_pictures(shown))
            texts = encoder.encode_texts([record.caption for record in shown])
            for way, near in (("image-to-text", pictures @ texts.T), ("text-to-image", texts @ pictures.T)):
                right = sum(int(near[i].argmax()) == i for i in range(6))
                row = rows[f"{name}{suffix}-{way}"]
                assert row.measured == pytest.approx(right / 6, abs=1e-5) and row.n == 6
                assert row.target == (None if suffix else 0.9)
                rule = "identical captions merged" if suffix else "(none that names a single shape and nothing else"
                assert rule in row.claim and row.claim.endswith(f"with {name} (R@1).")


def test_an_encoder_that_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        BENCHMARK.run(["retrieval"], tmp_path / "out", replace(BENCHMARK.settings, checkpoints=tmp_path))
    assert not (tmp_path / "out").exists()
