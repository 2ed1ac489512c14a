"""What is measured of tiny untrained models, against what is counted here."""

from dataclasses import replace
from itertools import islice

import pytest
import torch
from PIL import Image

from pocket_diffusers.eval.claims.snapgen import pictures
from pocket_diffusers.eval.claims.snapgen.benchmark import BENCHMARK
from pocket_diffusers.eval.claims.snapgen.pictures import load_nano
from pocket_diffusers.eval.named_pairs import draw_pairs, load_namer
from pocket_diffusers.eval.scores.instance_f1 import ground_truth
from pocket_diffusers.eval.scores.naming import pair_prompt
from pocket_diffusers.eval.scores.retrieval import to_pictures, world_records
from pocket_diffusers.pipelines.outputs import Detections
from pocket_diffusers.training.datasets.pocketworld.prompts import load_prompts
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
    namer, pipeline = load_namer(settings.checkpoints), load_nano(settings)
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


def test_a_naming_row_says_which_model_named(measured):
    rows, _ = measured
    for kind in ("seen-pairs", "held-out-pairs", "ground-truth"):
        assert rows[f"judge-{kind}"].claim.startswith("clip-nano-judge names the ")
    assert rows["judge-seen-pairs"].rival == "clip-nano-judge on PocketWorld's own pictures"


def test_geneval_is_of_the_committed_pipeline_by_the_committed_detector(settings, tmp_path, monkeypatch):
    """The detector knows true pictures by heart, and says of all others that they show a red cube."""
    truth = {record.rgb.tobytes(): ground_truth(record) for record in islice(world_records("test", 16), 80)}
    cube = Detections(("cube",), (0.95,), ((1, 1, 5, 5),), None, ("red",))
    looked_at = []

    class Eye:
        name = weights = "ascan-nano-judge"

        def __init__(self, folder):
            assert folder == settings.checkpoints / "ascan-nano-judge"

        def __call__(self, shown):
            looked_at.extend(picture for picture in shown if picture.tobytes() not in truth)
            return [truth.get(picture.tobytes(), cube) for picture in shown]

    monkeypatch.setattr(pictures, "JudgeDetector", Eye)
    few = replace(settings, geneval_images=1, geneval_truth=60)
    rows = {row.id: row for row in BENCHMARK.measure("geneval", tmp_path, few)}
    prompts = load_prompts()
    assert len(looked_at) == rows["geneval-overall"].n == len(prompts)
    pipeline = load_nano(settings)
    for number in (0, len(prompts) - 1):
        noise = torch.Generator().manual_seed(number)
        alone = pipeline(prompts[number]["prompt"], generator=noise).images[0]
        drawn = zip(alone.tobytes(), looked_at[number].tobytes(), strict=True)
        assert max(abs(a - b) for a, b in drawn) <= 1, "picture 0 of each prompt has the prompt's number as its seed"
    asked = {"single_object": [], "colors": []}
    for prompt in prompts:
        (clause, *_) = prompt["include"]
        if prompt["tag"] in asked:
            asked[prompt["tag"]].append(clause["class"] == "cube" and clause.get("color", "red") == "red")
    shares = {tag: sum(right) / len(right) for tag, right in asked.items()}
    assert rows["geneval-single-object"].measured == pytest.approx(shares["single_object"], abs=1e-5)
    assert rows["geneval-colors"].measured == pytest.approx(shares["colors"], abs=1e-5)
    assert rows["geneval-overall"].measured == pytest.approx(sum(shares.values()) / 6, abs=1e-5)
    assert rows["geneval-overall"].rival_measured == 1
    assert rows["geneval-share-of-truth"].measured == rows["geneval-overall"].measured
    assert rows["geneval-share-of-truth"].claim.endswith("from the same detector, ascan-nano-judge.")
    assert {row.command for row in rows.values()} == {"pocket eval snapgen --only geneval"}


@pytest.mark.parametrize("name", ["naming", "autoencoder", "geneval", "exported"])
def test_a_checkpoint_that_is_missing_is_named(tmp_path, name):
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        BENCHMARK.run([name], tmp_path / "out", replace(BENCHMARK.settings, checkpoints=tmp_path))
    assert not (tmp_path / "out").exists()
