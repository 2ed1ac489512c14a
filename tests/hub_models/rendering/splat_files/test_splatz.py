"""`.splatz`: what is written comes back, what a quality means, and what hostile files claim."""

import json
import math
import tracemalloc

import numpy as np
import pytest
import safetensors.numpy
import torch

from pocket_diffusers.hub_models.rendering import splat_codec
from pocket_diffusers.hub_models.rendering.entropy_coding import HEADER, STATE_FLOOR, SYMBOLS_A_LANE
from pocket_diffusers.hub_models.rendering.splat_codec import encode_splats, splat_config, unit_length
from pocket_diffusers.hub_models.rendering.splat_files import source, splatz


@pytest.mark.parametrize("degree", range(4))
def test_gaussians_come_back_to_half_a_step(tmp_path, splats, degree):
    whole = splats(200, degree)
    splatz.write(whole, tmp_path / "a.splatz")
    read = splatz.read(tmp_path / "a.splatz")
    assert len(read) == 200 and read.sh_degree == degree
    order = torch.cdist(read.means, whole.means).argmin(1)
    step = unit_length(whole)
    assert len(order.unique()) == 200
    assert (read.means - whole.means[order]).abs().max() <= step / 2 + 1e-5
    angles = [scene.opacity_logits.sigmoid().sqrt().asin() for scene in (read, whole.select(order))]
    assert (angles[0] - angles[1]).abs().max() <= 1 / 24 + 1e-4
    assert (read.rgb - whole.rgb[order]).abs().max() <= 4 * (1 / 40), "at most luma's half step and both chromas'"
    assert torch.equal(splatz.read((tmp_path / "a.splatz").read_bytes()).means, read.means)


def test_a_quality_divides_every_step(tmp_path, splats):
    sizes = []
    for quality in (1 / 16, 0.5, 1, 2, 16):
        splatz.write(splats(300, 1), tmp_path / "a.splatz", quality=quality)
        config, _ = splat_config((tmp_path / "a.splatz").read_bytes())
        assert math.isclose(config.luma_step, 0.05 / quality) and math.isclose(config.position_step, 1 / quality)
        sizes.append((tmp_path / "a.splatz").stat().st_size)
    assert sizes == sorted(sizes)


@pytest.mark.parametrize("quality", [0, -1, 0.06, 16.1, math.nan, math.inf, True])
def test_qualities_out_of_range_are_refused(tmp_path, splats, quality):
    with pytest.raises(ValueError, match=r"quality must be a number from 0\.0625 to 16, not"):
        splatz.write(splats(3), tmp_path / "a.splatz", quality=quality)
    assert not list(tmp_path.iterdir())


def test_what_no_file_holds_is_not_written(tmp_path, splats, monkeypatch):
    broken = splats(3)
    broken.quaternions[1] = 0
    for scene, message in ((broken, "that of Gaussian 1 is 0 0 0 0"), (splats(0), "must hold at least one, not 0")):
        with pytest.raises(ValueError, match=message):
            splatz.write(scene, tmp_path / "a.splatz")
    alike = splats(1).select(torch.zeros(20_000, dtype=torch.long))
    splatz.write(alike, tmp_path / "a.splatz")
    assert len(splatz.read(tmp_path / "a.splatz")) == 20_000
    (tmp_path / "a.splatz").unlink()
    monkeypatch.setattr(source, "FREE_BYTES", 44 * 20_000 - 1)
    with pytest.raises(ValueError, match=r"a\.splatz must unfold to at most 256 times its size"):
        splatz.write(alike, tmp_path / "a.splatz")
    assert not list(tmp_path.iterdir())


def test_each_fault_has_its_sentence(tmp_path, splats):
    with pytest.raises(ValueError, match="the data: A splat file must be in the safetensors format"):
        splatz.read(b"")
    with pytest.raises(ValueError, match="the data must hold Gaussians, but holds none"):
        splatz.read(encode_splats(splats(0)))
    (tmp_path / "a.splatz").write_bytes(encode_splats(splats(9))[:-1])
    with pytest.raises(ValueError, match=r"a\.splatz: A splat file must be in the safetensors format"):
        splatz.read(tmp_path / "a.splatz")
    with pytest.raises(FileNotFoundError, match=r"b\.splatz is missing"):
        splatz.read(tmp_path / "b.splatz")


def bomb(whole: bytes, count: int) -> bytes:
    """The file with streams that say they hold `count` Gaussians, well-formed up to the first word."""
    streams = {name: stream.tobytes() for name, stream in safetensors.numpy.load(whole).items()}
    about = json.loads(json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]["splats"])
    for name, stream in streams.items():
        if name != "positions":
            start = 3 + 4 * stream[0]  # the bytes of `neighbor_coding`, which begin with the number of channels
            _, contexts, alphabet, _, packed = HEADER.unpack_from(stream, start)
            lanes = count * stream[0] // SYMBOLS_A_LANE
            header = HEADER.pack(count * stream[0], contexts, alphabet, lanes, packed)
            tables = stream[start + HEADER.size : start + HEADER.size + packed]
            streams[name] = stream[:start] + header + tables + np.full(lanes, STATE_FLOOR, "<u4").tobytes()
    arrays = {name: np.frombuffer(stream, np.uint8) for name, stream in streams.items()}
    return safetensors.numpy.save(arrays, {"splats": json.dumps(about)})


@pytest.mark.parametrize("degree", [0, 3])
def test_no_claim_makes_memory_grow(splats, degree):
    data = bomb(encode_splats(splats(20, degree)), 10_000_000)
    assert splat_codec.claimed_size(data) == (10_000_000, degree) and len(data) < 1 << 20
    tracemalloc.start()
    with pytest.raises(ValueError, match="must unfold to at most 256 times its size"):
        splatz.read(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * len(data)


def test_a_file_cut_anywhere_is_refused(splats):
    whole = encode_splats(splats(3, 1))
    for length in range(len(whole)):
        with pytest.raises(ValueError, match=r"\.$"):
            splatz.read(whole[:length])


def test_hostile_files_are_refused_or_read(refuses, splats):
    files = [encode_splats(splats(30, degree)) for degree in (0, 1, 3)]
    assert refuses(splatz.read, files) > 900
