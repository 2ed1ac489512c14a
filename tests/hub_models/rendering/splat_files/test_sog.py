"""SOG: both versions as unpacked by hand from pictures, in a folder and in an archive, and what hostile ones claim."""

import io
import json
import math
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pocket_diffusers.hub_models.rendering.gaussians import Gaussians
from pocket_diffusers.hub_models.rendering.morton_order import morton_order
from pocket_diffusers.hub_models.rendering.splat_files import sog

COEFFICIENTS = {0: 0, 1: 3, 2: 8, 3: 15}
PALETTE = 70


def webp(pixels, width, **options):
    file = io.BytesIO()
    image = Image.fromarray(pixels.reshape(-1, width, pixels.shape[-1]))
    image.save(file, "WEBP", **{"lossless": True, "exact": True, **options})
    return file.getvalue()


def scene(version=2, count=10, degree=0, seed=0):
    """Files of a scene by name, and the random bytes in them."""
    draw = np.random.default_rng(seed)
    width, height = 4, -(-count // 4)
    pixels = {
        name: draw.integers(256, size=(width * height, 4)).astype(np.uint8)
        for name in ("means_l", "means_u", "scales", "quats", "sh0", "shN_labels")
    }
    pixels["quats"][:, 3] = draw.integers(252, 256, size=width * height)
    coefficients = COEFFICIENTS[degree]
    labels = draw.integers(PALETTE, size=width * height)
    pixels["shN_labels"][:, 0], pixels["shN_labels"][:, 1] = labels % 256, labels // 256
    book = [sorted(draw.normal(size=256).tolist()) for _ in range(3)]
    meta = {"means": {"mins": [-1.5, -2.0, 0.25], "maxs": [1.0, 2.5, 3.0], "files": ["means_l.webp", "means_u.webp"]}}
    meta |= {"quats": {"files": ["quats.webp"]}}
    if version == 2:
        meta |= {"version": 2, "count": count, "scales": {"codebook": book[0]}, "sh0": {"codebook": book[1]}}
        rest = {"codebook": book[2], "count": PALETTE, "bands": degree}
    else:
        meta["means"]["shape"] = [count, 3]
        meta["quats"]["encoding"] = "quaternion_packed"
        meta |= {"scales": {"mins": [-9.0, -8.0, -7.0], "maxs": [-1.0, -2.0, -3.0]}}
        meta |= {"sh0": {"mins": [-1.0, -2.0, -3.0, -4.0], "maxs": [1.0, 2.0, 3.0, 5.0]}}
        rest = {"mins": -0.5, "maxs": 0.75}
    meta["scales"]["files"], meta["sh0"]["files"] = ["scales.webp"], ["sh0.webp"]
    files = {f"{name}.webp": webp(values, width) for name, values in pixels.items() if degree or name != "shN_labels"}
    if degree:
        pixels["centroids"] = draw.integers(256, size=(128 * coefficients, 3)).astype(np.uint8)
        files["shN_centroids.webp"] = webp(pixels["centroids"], 64 * coefficients)
        meta["shN"] = {**rest, "files": ["shN_centroids.webp", "shN_labels.webp"]}
    return {**files, "meta.json": json.dumps(meta).encode()}, meta, pixels


def bundle(files, compression=zipfile.ZIP_STORED):
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return data.getvalue()


def changed(files, **values):
    """The files with keys of meta.json replaced: part_key=value, or key=value."""
    meta = json.loads(files["meta.json"])
    for name, value in values.items():
        part, _, key = name.partition("_")
        if key:
            meta[part][key] = value
        else:
            meta[part] = value
    return {**files, "meta.json": json.dumps(meta).encode()}


def table(meta, part, version, channel, byte):
    if version == 2:
        return meta[part]["codebook"][byte]
    low, high = (np.atleast_1d(meta[part][end])[channel] for end in ("mins", "maxs"))
    return low + (high - low) * byte / 255


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
@pytest.mark.parametrize("version", [1, 2])
def test_every_version_is_read_as_unpacked_by_hand(version, degree):
    files, meta, pixels = scene(version, degree=degree)
    read = sog.read(bundle(files))
    assert len(read) == 10 and read.sh_degree == degree
    for index in range(10):
        for axis in range(3):
            number = int(pixels["means_l"][index, axis]) + 256 * int(pixels["means_u"][index, axis])
            low, high = meta["means"]["mins"][axis], meta["means"]["maxs"][axis]
            value = low + (high - low) * number / 65535
            assert read.means[index, axis].item() == pytest.approx(
                math.copysign(math.exp(abs(value)) - 1, value), abs=1e-6
            )
            scale, color = int(pixels["scales"][index, axis]), int(pixels["sh0"][index, axis])
            assert read.log_scales[index, axis].item() == pytest.approx(
                table(meta, "scales", version, axis, scale), 1e-6
            )
            assert read.sh[index, 0, axis].item() == pytest.approx(table(meta, "sh0", version, axis, color), 1e-6)
        alpha = int(pixels["sh0"][index, 3])
        logit = table(meta, "sh0", 1, 3, alpha) if version == 1 else math.log(alpha / (255 - alpha))
        assert read.opacity_logits[index].item() == pytest.approx(logit, abs=1e-5)
        others = [(int(byte) / 255 - 0.5) * math.sqrt(2) for byte in pixels["quats"][index, :3]]
        others.insert(int(pixels["quats"][index, 3]) - 252, math.sqrt(max(0, 1 - sum(value**2 for value in others))))
        assert read.quaternions[index].tolist() == pytest.approx(others, abs=1e-6)
        label = int(pixels["shN_labels"][index, 0]) + 256 * int(pixels["shN_labels"][index, 1])
        for k in range(COEFFICIENTS[degree]):
            x, y = label % 64 * COEFFICIENTS[degree] + k, label // 64
            found = pixels["centroids"].reshape(2, -1, 3)[y, x]
            wanted = [table(meta, "shN", version, 0, int(byte)) for byte in found]
            assert read.sh[index, 1 + k].tolist() == pytest.approx(wanted, abs=1e-6)


def test_folder_file_and_archive_are_one_scene(tmp_path):
    files, _, _ = scene(degree=1)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "scene.sog").write_bytes(bundle(files, zipfile.ZIP_DEFLATED))
    first, *others = (sog.read(tmp_path / name).tensors() for name in ("", "meta.json", "scene.sog"))
    assert all(torch.equal(value, other[name]) for other in others for name, value in first.items())


def test_a_tag_that_names_no_component_stands_for_no_rotation():
    files, _, pixels = scene()
    pixels["quats"][3, 3] = 17
    assert sog.read(bundle({**files, "quats.webp": webp(pixels["quats"], 4)})).quaternions[3].tolist() == [1, 0, 0, 0]


def test_a_codebook_whose_first_entry_is_null_is_patched():
    files, meta, _ = scene()
    book = meta["scales"]["codebook"]
    patched = book[1] + (book[1] - book[255]) / 255
    null, whole = (sog.read(bundle(changed(files, scales_codebook=[first, *book[1:]]))) for first in (None, patched))
    assert torch.equal(null.log_scales, whole.log_scales)


def test_the_public_scene_lies_within_its_bounds(public):
    read = sog.read(public("playcanvas_engine/playbot/3_0"))
    assert len(read) == 31_000 and read.sh_degree == 2
    low, high = torch.tensor([-1.033496, -1.083135, -1.039343]), torch.tensor([1.03509, 0.05205518, 1.042389])
    assert (read.means >= low).all() and (read.means <= high).all()
    torch.testing.assert_close(read.quaternions.norm(dim=1), torch.ones(31_000))
    assert 0 < read.rgb.mean() < 1 and read.sh[:, 1:].abs().max() < 4


FILES, META, _ = scene(degree=1)
LARGE = webp(np.zeros((1 << 20, 4), np.uint8), 1024)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "must hold meta.json, but does not"),
        ({**FILES, "meta.json": b"{"}, r"meta\.json is truncated or no JSON file"),
        ({**FILES, "meta.json": b"\xff\xfe"}, "no JSON file"),
        ({**FILES, "meta.json": b"[" * 100_000}, "no JSON file"),
        ({**FILES, "meta.json": b'{"a":' * 100_000}, "no JSON file"),
        ({**FILES, "meta.json": b"[]"}, "must hold a JSON object"),
        (changed(FILES, version=3), "version must be 2, not 3"),
        (changed(FILES, count=0), "count must be a whole number from 1 to"),
        (changed(FILES, count=1e1), "count must be a whole number"),
        (changed(FILES, count=True), "count must be a whole number"),
        (changed(FILES, count=13), r"means_l\.webp must have 13 to 65,562 pixels, not 4 x 3"),
        (changed(FILES, count=4_000_000_000), "must have 4,000,000,000 to"),
        (changed(FILES, means=3), "means must be an object, not 3"),
        (changed(FILES, means_mins=[0, 0]), "mins must be 3 finite numbers"),
        (changed(FILES, means_mins=[0, 0, math.nan]), "mins must be 3 finite numbers"),
        (changed(FILES, means_mins=[0, 0, 10**400]), "mins must be 3 finite numbers|no JSON"),
        (changed(FILES, means_maxs=[0, 0, 1e30]), "means must be finite"),
        (changed(FILES, scales_codebook=[1.0] * 255), "codebook must be 256 finite numbers"),
        (changed(FILES, scales_files=["../../etc/passwd"]), "file names below its folder"),
        (changed(FILES, scales_files=["/etc/passwd"]), "file names below its folder"),
        (changed(FILES, scales_files=["none.webp"]), "must hold none.webp"),
        (changed(FILES, scales_files=["meta.json"]), r"meta\.json is no WebP picture"),
        (changed(FILES, quats_encoding="other"), "encoding must be quaternion_packed, not 'other'"),
        (changed(FILES, shN_count=PALETTE - 30), "must hold labels below 40, not"),
        (changed(FILES, shN_count=1000), "count must be a whole number from 1 to 128, not 1000"),
        (changed(FILES, shN_bands=2), "bands must be 1, not 2"),
        (changed(FILES, shN_files=["shN_labels.webp", "shN_centroids.webp"]), "192, 512 or 960 pixels wide, not 4"),
        ({**FILES, "sh0.webp": LARGE}, r"sh0\.webp must have 10 to 65,556 pixels, not 1024 x 1024"),
        ({**FILES, "sh0.webp": webp(np.zeros((12, 3), np.uint8), 4, lossless=False)}, "is no lossless WebP picture"),
        ({**FILES, "sh0.webp": FILES["sh0.webp"][:60]}, r"sh0\.webp is damaged"),
    ],
)  # fmt: skip
def test_each_fault_has_its_sentence(files, message):
    with pytest.raises(ValueError, match=message):
        sog.read(bundle(files))


def test_a_folder_that_lacks_a_picture_says_which(tmp_path):
    (tmp_path / "meta.json").write_bytes(FILES["meta.json"])
    with pytest.raises(ValueError, match=r"must hold means_l\.webp, which meta\.json names"):
        sog.read(tmp_path)


def test_no_archive_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "a.sog").write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"a\.sog is no zip archive, or a damaged one"):
        sog.read(tmp_path / "a.sog")


def bombs():
    width = 4096
    black = webp(np.zeros((width * width, 4), np.uint8), width)
    names = ("means_l", "means_u", "scales", "quats", "sh0")
    plain = {name: content for name, content in changed(FILES, count=width * width).items() if "shN" not in name}
    meta = json.loads(plain["meta.json"])
    del meta["shN"]
    plain["meta.json"] = json.dumps(meta).encode()
    yield bundle({**plain, **{f"{name}.webp": black for name in names}})
    yield bundle({"meta.json": b" " * (1 << 27)}, zipfile.ZIP_DEFLATED)
    yield bundle({**FILES, "means_l.webp": bytes(1 << 27)}, zipfile.ZIP_DEFLATED)


def test_no_claim_makes_memory_grow():
    for bomb in bombs():
        tracemalloc.start()
        with pytest.raises(ValueError, match="must unfold to at most 256 times its size"):
            sog.read(bomb)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 21


def test_an_archive_cut_anywhere_is_refused():
    whole = bundle(FILES)
    for length in range(0, len(whole), 7):
        with pytest.raises(ValueError, match=r"\.$"):
            sog.read(whole[:length])


def test_hostile_files_are_refused_or_read(refuses):
    small = {name: content for name, content in scene(1, degree=1)[0].items()}
    assert refuses(sog.read, [bundle(FILES), bundle(small, zipfile.ZIP_DEFLATED)]) > 300


def test_hostile_pictures_and_texts_are_refused_or_read(refuses):
    """Damage behind a whole archive, whose checksums would show it."""
    names = [name for name in FILES]
    for name in names:
        refuses(lambda data, name=name: sog.read(bundle({**FILES, name: data})), [FILES[name]], cases=125)


@given(
    count=st.integers(1, 300),
    degree=st.integers(0, 3),
    spread=st.sampled_from([0.0, 1e-3, 1, 1e4]),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=15, deadline=None)
def test_a_round_trip_is_exact_to_half_a_step_and_stays(tmp_path_factory, count, degree, spread, seed):
    draw = torch.Generator().manual_seed(seed)
    whole = Gaussians(
        torch.randn(count, 3, generator=draw) * spread + torch.tensor([0.0, 10, -1000]),
        torch.rand(count, 3, generator=draw) * 20 - 12,
        torch.randn(count, 4, generator=draw),
        torch.randn(count, generator=draw) * 4,
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )
    path = tmp_path_factory.mktemp("sog") / "a.sog"
    sog.write(whole, path)
    first = path.read_bytes()
    read = sog.read(path)
    sog.write(read, path)
    assert path.read_bytes() == first

    def logarithm(means):
        return means.double().sign() * means.double().abs().log1p()

    low, high = logarithm(whole.means).aminmax(dim=0)
    # Compared in the order of the file, which is found from the numbers that it holds.
    step = (high - low).clamp_min(1e-300) / 65535
    cells = ((logarithm(whole.means) - low) / step).round()
    order = torch.from_numpy(morton_order(cells.numpy()))
    assert ((logarithm(read.means) - logarithm(whole.means[order])).abs() <= step / 2 + 1e-6).all()
    opacity = (read.opacity_logits.sigmoid() - whole.opacity_logits[order].sigmoid()).abs()
    assert (opacity <= 0.5 / 255 + 1e-5).all()
    turned = torch.nn.functional.cosine_similarity(read.quaternions, whole.quaternions[order]).abs()
    assert (turned > 1 - 2e-4).all()
    for values, original in ((read.log_scales, whole.log_scales[order]), (read.sh[:, 0], whole.sh[order, 0])):
        book = values.unique()
        assert len(book) <= 256
        best = (original.flatten()[:, None] - book).abs().amin(1)
        torch.testing.assert_close((values - original).abs().flatten(), best, rtol=0, atol=1e-6)
        if original.unique().numel() <= 256:
            assert torch.equal(values, original)
    if degree:
        assert len(read.sh[:, 1:].flatten(1).unique(dim=0)) <= 1 << (count.bit_length() - 1)


def test_few_distinct_values_come_back_to_the_bit(tmp_path):
    draw = np.random.default_rng(0)
    pick = lambda *shape: torch.from_numpy(draw.normal(size=64).astype(np.float32)[draw.integers(64, size=shape)])  # noqa: E731
    vectors = pick(100, 15, 3)
    sh = torch.cat([pick(900, 1, 3), vectors[torch.from_numpy(draw.integers(100, size=900))]], 1)
    whole = Gaussians(
        torch.zeros(900, 3), pick(900, 3), torch.tensor([[1.0, 0, 0, 0]]).repeat(900, 1), torch.zeros(900), sh
    )
    sog.write(whole, tmp_path / "a.sog")
    read = sog.read(tmp_path / "a.sog")
    for name in ("means", "log_scales", "sh"):
        assert torch.equal(read.tensors()[name], whole.tensors()[name])


def test_the_folder_holds_what_the_archive_does(tmp_path, splats):
    whole = splats(50, 2)
    sog.write(whole, tmp_path / "a.sog")
    sog.write(whole, tmp_path / "folder" / "meta.json")
    with zipfile.ZipFile(tmp_path / "a.sog") as archive:
        assert {path.name: path.read_bytes() for path in (tmp_path / "folder").iterdir()} == {
            name: archive.read(name) for name in archive.namelist()
        }
        meta = json.loads(archive.read("meta.json"))
    assert meta["count"] == 50 and meta["shN"]["bands"] == 2 and meta["version"] == 2
    assert Image.open(tmp_path / "folder" / "sh0.webp").size == (8, 8)
    assert Image.open(tmp_path / "folder" / "shN_centroids.webp").size == (512, 1)


@pytest.mark.parametrize(("count", "size"), [(1, (4, 4)), (16, (4, 4)), (17, (8, 4)), (31_000, (180, 176))])
def test_sizes_of_pictures(tmp_path, splats, count, size):
    sog.write(splats(count), tmp_path / "meta.json")
    assert Image.open(tmp_path / "scales.webp").size == size and len(sog.read(tmp_path)) == count


def test_another_encoders_scene_is_rewritten_alike(tmp_path, public):
    """Its codebooks and its palette are kept, positions and rotations as well."""
    before = sog.read(public("playcanvas_engine/playbot/5_0"))
    sog.write(before, tmp_path / "a.sog")
    after = sog.read(tmp_path / "a.sog")
    key = lambda scene: torch.argsort(scene.means.double() @ torch.tensor([1.0, 1e3, 1e6]).double())  # noqa: E731
    before, after = before.select(key(before)), after.select(key(after))
    torch.testing.assert_close(after.means, before.means, rtol=0, atol=5e-5)
    assert torch.equal(after.log_scales.sort(0)[0], before.log_scales.sort(0)[0])
    assert torch.equal(after.sh[:, 0].sort(0)[0], before.sh[:, 0].sort(0)[0])


@pytest.mark.parametrize("version", [1, 2])
def test_odd_values_in_the_text_are_refused_or_read(tmp_path, check_odd_versions, version):
    files, meta, _ = scene(version, degree=1)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)

    def read(text):
        (tmp_path / "meta.json").write_bytes(text)
        return sog.read(tmp_path)

    check_odd_versions(meta, read)
