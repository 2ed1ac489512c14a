"""SPZ: every version and frame, values unpacked by hand, and what hostile files claim."""

import gzip
import math
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
import torch
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.splat_files import spz
from pocket_diffusers.hub_models.rendering.splat_files.axes import AxisFlips

DIMENSIONS = {0: 0, 1: 3, 2: 8, 3: 15, 4: 24}


def streams(version, count, degree, seed=0):
    """Random attributes in the order of the file."""
    draw = np.random.default_rng(seed)
    widths = [6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4, 3 * DIMENSIONS[degree]]
    parts = [draw.bytes(count * width) for width in widths]
    if version == 1:
        parts[0] = draw.normal(size=3 * count).astype("<f2").tobytes()
    return parts[: 6 if degree else 5]


def one_stream(parts, count, degree, version=3, bits=12, flags=0, extra=b"", packed=True):
    data = struct.pack("<4sIIBBBB", b"NGSP", version, count, degree, bits, flags, 0) + b"".join(parts) + extra
    return gzip.compress(data, mtime=0) if packed else data


def many_streams(parts, count, degree, bits=12, flags=0, extra=b"", sized=True):
    compressor = zstandard.ZstdCompressor(write_content_size=sized)
    frames = [compressor.compress(part) for part in parts]
    data = struct.pack("<4sIIBBBBI12x", b"NGSP", 4, count, degree, bits, flags, len(parts), 32 + len(extra)) + extra
    data += b"".join(struct.pack("<QQ", len(f), len(p)) for f, p in zip(frames, parts, strict=True))
    return data + b"".join(frames)


def extension(kind, payload):
    return struct.pack("<II", kind, len(payload)) + payload


def unpacked(parts, version, index, bits=12):
    """One Gaussian in the axes of the file, computed number by number."""
    if version == 1:
        means = struct.unpack_from("<3e", parts[0], 6 * index)
    else:
        chunk = parts[0][9 * index : 9 * index + 9]
        means = [int.from_bytes(chunk[i : i + 3], "little", signed=True) / 2**bits for i in (0, 3, 6)]
    colors = [(byte / 255 - 0.5) / 0.15 for byte in parts[2][3 * index : 3 * index + 3]]
    scales = [byte / 16 - 10 for byte in parts[3][3 * index : 3 * index + 3]]
    if version < 3:
        xyz = [byte / 127.5 - 1 for byte in parts[4][3 * index : 3 * index + 3]]
        quaternion = [math.sqrt(max(0, 1 - sum(v * v for v in xyz))), *xyz]
    else:
        (word,) = struct.unpack_from("<I", parts[4], 4 * index)
        xyzw = [0.0] * 4
        for component in (c for c in (3, 2, 1, 0) if c != word >> 30):
            xyzw[component] = (word & 511) / 511 / math.sqrt(2) * (-1 if word & 512 else 1)
            word = word & 0xC0000000 | (word & 0x3FFFFFFF) >> 10
        xyzw[word >> 30] = math.sqrt(max(0, 1 - sum(v * v for v in xyzw)))
        quaternion = [xyzw[3], *xyzw[:3]]
    return means, colors, scales, quaternion


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("bits", [12, 8])
def test_every_version_is_read_as_unpacked_by_hand(version, degree, bits):
    parts = streams(version, 5, degree)
    data = (many_streams if version == 4 else one_stream)(
        parts, 5, degree, bits=bits, **({} if version == 4 else {"version": version})
    )
    read = spz.read(data)
    assert read.sh_degree == degree
    flips = AxisFlips.between("RUB")
    for index in range(5):
        means, colors, scales, quaternion = unpacked(parts, version, index, bits)
        assert read.means[index].tolist() == pytest.approx(means * flips.position, abs=1e-6)
        assert read.sh[index, 0].tolist() == pytest.approx(colors, abs=1e-6)
        assert read.log_scales[index].tolist() == scales
        assert read.quaternions[index].tolist() == pytest.approx(quaternion * flips.quaternion, abs=1e-6)
        assert read.opacity_logits[index].sigmoid().item() == pytest.approx(parts[1][index] / 255, abs=1e-5)
        for k in range(DIMENSIONS[degree]):  # the colour is the inner axis
            start = 3 * (index * DIMENSIONS[degree] + k)
            wanted = [(byte - 128) / 128 * flips.sh[k] for byte in parts[5][start : start + 3]]
            assert read.sh[index, 1 + k].tolist() == wanted


def test_a_stream_that_is_not_packed_is_read():
    parts = streams(2, 4, 0)
    plain, packed = (one_stream(parts, 4, 0, version=2, packed=packed) for packed in (False, True))
    assert torch.equal(spz.read(plain).means, spz.read(packed).means)


def test_frames_of_unknown_size_are_unfolded():
    parts = streams(4, 4, 1)
    assert torch.equal(spz.read(many_streams(parts, 4, 1, sized=False)).sh, spz.read(many_streams(parts, 4, 1)).sh)


def test_the_four_gaussians_are_equal_in_all_containers(public):
    v3, v4, v2, raw = (
        spz.read(public(f"splat_transform_fixtures/minimal-{name}.spz")).tensors() for name in ("v3", "v4", "v2", "raw")
    )
    assert all(torch.equal(v3[name], v4[name]) and torch.equal(raw[name], v2[name]) for name in v3)
    # The older two were made with other colours and a mirrored z; 8 fractional bits instead of 12 make no difference.
    torch.testing.assert_close(v2["means"] * torch.tensor([1, 1, -1]), v4["means"])
    assert torch.equal(v2["log_scales"], v4["log_scales"]) and torch.equal(v2["opacity_logits"], v4["opacity_logits"])
    assert v4["means"].abs().max() == 1


def test_degree_4_is_cut_with_a_warning():
    parts = streams(4, 3, 4)
    with pytest.warns(UserWarning, match="the data holds spherical harmonics of degree 4, of which degrees 0 to 3"):
        read = spz.read(many_streams(parts, 3, 4))
    assert read.sh_degree == 3
    raw = np.frombuffer(parts[5], np.uint8).reshape(3, 24, 3)[:, :15]
    flips = AxisFlips.between("RUB").sh[:, None]
    np.testing.assert_array_equal(read.sh[:, 1:].numpy(), (raw.astype(np.float32) - 128) / 128 * flips)


@pytest.mark.parametrize("container", [many_streams, one_stream])
@pytest.mark.parametrize(
    ("value", "frame"), list(enumerate(["RUB", "LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF"]))
)
def test_the_named_frame_is_honoured(container, value, frame):
    parts = streams(3, 6, 3)
    named = extension(0x12340001, b"abc") + extension(0xADBE0003, struct.pack("<I", value))
    read = spz.read(container(parts, 6, 3, flags=2, extra=named))
    plain = spz.read(container(parts, 6, 3))
    flips, back = AxisFlips.between(frame), AxisFlips.between("RUB")
    torch.testing.assert_close(read.means, plain.means * torch.from_numpy(back.position * flips.position))
    torch.testing.assert_close(
        read.quaternions, plain.quaternions * torch.from_numpy(back.quaternion * flips.quaternion)
    )
    signs = torch.from_numpy(back.sh * flips.sh)[:, None]
    torch.testing.assert_close(read.sh[:, 1:], plain.sh[:, 1:] * signs)
    ignored = spz.read(container(parts, 6, 3, flags=0, extra=named if container is many_streams else b""))
    assert torch.equal(ignored.means, plain.means), "without its flag there is no extension"


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (
            extension(0xADBE0003, struct.pack("<I", 9)),
            r"coordinate system 9 of SPZ_ADOBE_coordinate_system, .* turned by a quarter about x",
        ),
        (extension(0xADBE0003, struct.pack("<I", 16)), "coordinate system 16 of SPZ_ADOBE"),
        (extension(0xADBE0003, struct.pack("<I", 17)), "coordinate system from 0 to 16, not 17"),
        (extension(0xADBE0003, b"\4"), "in 4 bytes, not 1"),
        (extension(0xADBE0002, bytes(12))[:-1], "extension that is truncated"),
        (b"\0" * 7, "extension that is truncated"),
    ],
)
def test_other_frames_and_broken_extensions_are_refused(extra, message):
    for container in (many_streams, one_stream):
        with pytest.raises(ValueError, match=message):
            spz.read(container(streams(3, 2, 0), 2, 0, flags=2, extra=extra))


def test_the_orbit_camera_is_skipped():
    parts = streams(4, 2, 0)
    data = many_streams(parts, 2, 0, flags=2, extra=extension(0xADBE0002, struct.pack("<3f", -1, 1, 2)))
    assert torch.equal(spz.read(data).means, spz.read(many_streams(parts, 2, 0)).means)


GOOD = many_streams(streams(4, 2, 0), 2, 0)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is truncated"),
        (b"hello, world", "begins with neither NGSP nor a gzip header"),
        (gzip.compress(b"hello, world, how are you", mtime=0), "does not hold NGSP"),
        (one_stream(streams(3, 2, 0), 0, 0), "holds none"),
        (one_stream(streams(3, 2, 0), 2, 0, version=5), "version 1, 2, 3 in this container, not 5"),
        (GOOD[:4] + b"\5" + GOOD[5:], "version 4 in this container, not 5"),
        (GOOD[:12] + b"\5" + GOOD[13:], "SH degree of 0 to 4, not 5"),
        (GOOD[:13] + b"\x18" + GOOD[14:], "0 to 23 fractional bits, not 24"),
        (GOOD[:15] + b"\6" + GOOD[16:], "must hold 5 streams, not 6"),
        (GOOD[:16] + b"\x10\0\0\0" + GOOD[20:], "table of streams from byte 32 on, not from 16"),
        (GOOD[:40] + b"\7" + GOOD[41:], "must hold 9 bytes of positions a Gaussian, 18 in all, not 7"),
        (GOOD[:32] + b"\xff" * 7 + b"\x7f" + GOOD[40:], "is truncated"),
        (GOOD[:112] + b"\0" + GOOD[113:], "damaged: its positions cannot be unfolded"),
        (one_stream(streams(3, 2, 0), 2, 0)[:-3], "truncated or damaged"),
        (
            one_stream([np.full(3, np.nan, "<f2").tobytes(), *streams(1, 1, 0)[1:]], 1, 0, version=1),
            "means must be finite",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_fault_has_its_sentence(data, message):
    with pytest.raises(ValueError, match=message):
        spz.read(data)


def bombs():
    huge = 4_000_000_000
    yield one_stream(streams(3, 2, 0), huge, 0)
    yield one_stream(streams(3, 2, 0), huge, 0, packed=False)
    yield GOOD[:8] + struct.pack("<I", huge) + GOOD[12:]
    # Well-formed throughout: 20 million Gaussians, all zero, in a few kilobytes.
    count = 20_000_000
    frames = [zstandard.ZstdCompressor().compress(bytes(count * width)) for width in (9, 1, 3, 3, 4)]
    table = b"".join(struct.pack("<QQ", len(f), count * w) for f, w in zip(frames, (9, 1, 3, 3, 4), strict=True))
    yield struct.pack("<4sIIBBBBI12x", b"NGSP", 4, count, 0, 12, 0, 5, 32) + table + b"".join(frames)
    # A frame that claims another size than the table does.
    parts = streams(4, 2, 0)
    good = many_streams(parts, 2, 0)
    lie = zstandard.ZstdCompressor().compress(bytes(1 << 24))
    yield good[:32] + struct.pack("<QQ", len(lie), 18) + good[48:112] + lie + good[112 + 27 :]


def test_no_claim_makes_memory_grow():
    for bomb in bombs():
        tracemalloc.start()
        with pytest.raises(ValueError, match=r"\.$"):
            spz.read(bomb)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 21


def test_a_file_cut_anywhere_is_refused():
    for whole in (
        GOOD,
        one_stream(streams(2, 2, 1), 2, 1, version=2),
        one_stream(streams(3, 2, 0), 2, 0, packed=False),
    ):
        for length in range(len(whole)):
            with pytest.raises(ValueError, match=r"\.$"):
                spz.read(whole[:length])


def test_hostile_files_are_refused_or_read(refuses):
    files = [
        many_streams(streams(4, 4, 0), 4, 0),
        many_streams(streams(4, 4, 3), 4, 3, flags=2, extra=extension(0xADBE0003, struct.pack("<I", 6))),
        *(one_stream(streams(version, 4, 1), 4, 1, version=version, packed=False) for version in (1, 2, 3)),
        one_stream(streams(3, 4, 0), 4, 0),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of degree 4, where a changed byte says so
        assert refuses(spz.read, files) > 300


@given(
    count=st.integers(1, 60),
    degree=st.integers(0, 3),
    version=st.sampled_from([3, 4]),
    bits=st.sampled_from([8, 12, 15]),
    spread=st.sampled_from([0.01, 1, 300]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=30, deadline=None)
def test_a_round_trip_is_exact_to_half_a_step_and_stays(tmp_path_factory, count, degree, version, bits, spread, seed):
    draw = torch.Generator().manual_seed(seed)
    whole = Gaussians(
        torch.randn(count, 3, generator=draw) * spread,
        torch.rand(count, 3, generator=draw) * 20 - 12,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw) * 4,
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw) * 0.7,
    )
    path = tmp_path_factory.mktemp("spz") / "a.spz"
    spz.write(whole, path, version=version, fractional_bits=bits)
    first = path.read_bytes()
    read = spz.read(path)
    spz.write(read, path, version=version, fractional_bits=bits)
    assert path.read_bytes() == first

    limit = 2.0 ** (23 - bits)
    up = torch.from_numpy(AxisFlips.between("RUB").position)  # the axes of the file, whose upper limit is a step less
    means = (whole.means * up).clamp(-limit, limit - 2.0**-bits) * up
    step = 2.0**-bits
    # Each Gaussian read is one that was written, in another order.
    order = match(read, means, whole, step)
    assert ((read.means - means[order]).abs() <= step / 2 + 1e-5).all()
    scales = whole.log_scales[order].clamp(-10, 255 / 16 - 10)
    assert ((read.log_scales - scales).abs() <= 1 / 32 + 1e-5).all()
    opacity = (read.opacity_logits.sigmoid() - whole.opacity_logits[order].sigmoid()).abs()
    assert (opacity <= 0.5 / 255 + 1e-5).all()
    dc = whole.sh[order, 0].clamp(-0.5 / 0.15, 0.5 / 0.15)
    assert ((read.sh[:, 0] - dc).abs() <= 0.5 / (0.15 * 255) + 1e-5).all()
    turned = torch.nn.functional.cosine_similarity(read.quaternions, whole.quaternions[order]).abs()
    assert (turned > 1 - 1e-5).all()
    for low, high, width in ((1, 4, 8), (4, 16, 16)):
        error = read.sh[:, low:high] - whole.sh[order, low:high].clamp(-1, 127 / 128)
        assert not error.numel() or error.abs().max() <= (width + 1) / 2 / 128 + 1e-5


def match(read, means, whole, step):
    """Index into `whole` of each Gaussian read: the nearest in position, opacity and colour."""
    far = torch.cdist(read.means / step, means / step, p=float("inf")).clamp(max=1e4)
    far += 50 * (read.opacity_logits.sigmoid()[:, None] - whole.opacity_logits.sigmoid()).abs()
    far += 5 * torch.cdist(read.sh[:, 0], whole.sh[:, 0].clamp(-3.34, 3.34), p=float("inf"))
    return far.argmin(1)


def test_clipped_values_are_those_that_the_file_can_hold(tmp_path):
    whole = Gaussians(
        torch.tensor([[1e6, -1e6, 0.0]]), torch.tensor([[-20.0, 9, 0]]), torch.tensor([[1.0, 0, 0, 0]]),
        torch.tensor([40.0]), torch.tensor([[[9.0, -9, 0]] + [[5.0, -5, 0]] * 3]),
    )  # fmt: skip
    spz.write(whole, tmp_path / "a.spz")
    read = spz.read(tmp_path / "a.spz")
    assert read.means[0].tolist() == [2048 - 2**-12, -2048 + 2**-12, 0], "y is stored upwards"
    assert read.log_scales[0].tolist() == [-10, 255 / 16 - 10, 0]
    assert read.sh[0, 0].tolist() == pytest.approx([0.5 / 0.15, -0.5 / 0.15, 0], abs=0.014)
    assert read.sh[0, 3].tolist() == [127 / 128, -1, 0]


def test_gaussians_are_written_along_a_morton_curve(tmp_path):
    steps = torch.tensor([[x, y, z] for x in (0.0, 1) for y in (0.0, 1) for z in (0.0, 1)])
    means = steps[torch.randperm(8, generator=torch.Generator().manual_seed(1))]
    whole = Gaussians(means, torch.zeros(8, 3), torch.ones(8, 4), torch.zeros(8), torch.zeros(8, 1, 3))
    spz.write(whole, tmp_path / "a.spz")
    up = AxisFlips.between("RUB").position  # the axes of the file, in which the curve runs
    assert (spz.read(tmp_path / "a.spz").means.numpy() * up).tolist() == [
        [x, -1 + y, -1 + z] for z in (0, 1) for y in (0, 1) for x in (0, 1)
    ]


def test_each_version_has_its_container(tmp_path, splats):
    spz.write(splats(5, 2), tmp_path / "four.spz")
    spz.write(splats(5, 2), tmp_path / "three.spz", version=3)
    assert (tmp_path / "four.spz").read_bytes()[:12] == b"NGSP\4\0\0\0\5\0\0\0"
    three = gzip.decompress((tmp_path / "three.spz").read_bytes())
    assert three[:16] == b"NGSP\3\0\0\0\5\0\0\0\2\x0c\0\0" and len(three) == 16 + 5 * (20 + 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": 2}, "version must be a whole number from 3 to 4, not 2"),
        ({"fractional_bits": 24}, "fractional_bits must be a whole number from 0 to 23, not 24"),
        ({"sh_bits": (0, 4)}, "sh_bits must be a whole number from 1 to 8, not 0"),
    ],
)
def test_options_out_of_range_are_refused(tmp_path, splats, options, message):
    with pytest.raises(ValueError, match=message):
        spz.write(splats(3), tmp_path / "a.spz", **options)
    assert not list(tmp_path.iterdir())
