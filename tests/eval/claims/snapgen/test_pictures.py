"""What is measured of tiny untrained models, against what is counted here."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.claims.snapgen.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.snapgen.pictures import draw_pairs, load_namer, load_nano
from pocket_diffusers.eval.scores.naming import pair_prompt
from pocket_diffusers.eval.scores.retrieval import to_pictures, world_records
from pocket_diffusers.training.datasets.pocketworld.scene import ALL_PAIRS, HELD_OUT_PAIRS


@pytest.fixture(scope="module")
def settings(checkpoints):
    return replace(
        BENCHMARK.settings, checkpoints=checkpoints, pictures_a_pair=1, true_pictures=4, reconstructions=6,
        picture_size=16,
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(settings, tmp_path_factory):
    output = tmp_path_factory.mktemp("output")
    rows = [row for name in ("naming", "autoencoder") for row in BENCHMARK.measure(name, output, settings)]
    return {row.id: row for row in rows}, output


def test_autoencoder_row_is_the_psnr_of_reconstructions(measured, settings):
    rows, _ = measured
    vae = load_nano(settings).vae
    values = []
    for record in islice(world_records("test", 16), 6):
        pixels = torch.from_numpy(record.rgb).permute(2, 0, 1)[None].double()
        with torch.no_grad():
            output = vae.decode(vae.encode(pixels.float() / 127.5 - 1).latent_dist.mode()).sample
        error = ((output.clamp(-1, 1).double() + 1) * 127.5 - pixels).square().mean()
        values.append(10 * torch.log10(255**2 / error).item())
    assert rows["autoencoder-psnr"].measured == pytest.approx(sum(values) / 6, abs=1e-3)


def test_naming_rows_are_shares_of_what_is_named_as_asked(measured, settings):
    rows, _ = measured
    namer, pipeline = load_namer(settings), load_nano(settings)
    noise = [torch.Generator().manual_seed(0) for _ in ALL_PAIRS]
    named = namer.name(pipeline(list(map(pair_prompt, ALL_PAIRS)), generator=noise, output_type="pt").images)
    for kind, pairs in (("seen", set(ALL_PAIRS) - HELD_OUT_PAIRS), ("held-out", HELD_OUT_PAIRS)):
        right = sum(one == pair for one, pair in zip(named, ALL_PAIRS, strict=True) if pair in pairs)
        row = rows[f"judge-{kind}-pairs"]
        assert (row.measured, row.n) == (right / len(pairs), len(pairs))
    claim = rows["judge-held-out-pairs"].claim
    assert "the UNet never saw" in claim and "the autoencoder and the text encoder saw all fifty" in claim
    alone = (one for one in world_records("test", 16) if one.description.tag == "colors")
    true = list(islice(alone, 4))
    shown = [(one.scene.objects[0].color, one.scene.objects[0].shape) for one in true]
    share = sum(one == pair for one, pair in zip(namer.name(to_pictures(true)), shown, strict=True)) / 4
    assert share == rows["judge-ground-truth"].measured == rows["judge-seen-pairs"].rival_measured


def test_the_sheet_of_pairs_is_drawn(measured):
    with Image.open(measured[1] / "snapgen.png") as sheet:
        assert sheet.width > 5 * 128 and sheet.height > 10 * 128
    assert [path.name for path in measured[1].iterdir()] == ["snapgen.png"]


def test_pictures_of_a_pair_depend_on_their_seed_alone(settings):
    pipeline, pairs = load_nano(settings), ALL_PAIRS[12:15]
    drawn = draw_pairs(pipeline, pairs, 2)
    assert drawn.shape == (2, 3, 3, 16, 16) and 0 <= drawn.min() <= drawn.max() <= 1
    noise = torch.Generator().manual_seed(1)
    alone = pipeline(pair_prompt(pairs[1]), generator=noise, output_type="pt").images[0]
    torch.testing.assert_close(drawn[1, 1], alone, atol=1e-4, rtol=0)
    assert not torch.allclose(drawn[0, 1], drawn[1, 1], atol=1e-3)


@pytest.mark.parametrize("name", ["naming", "autoencoder", "geneval", "exported"])
def test_a_checkpoint_that_is_missing_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        BENCHMARK.run([name], tmp_path / "out", replace(BENCHMARK.settings, checkpoints=tmp_path))
    assert not (tmp_path / "out").exists()
