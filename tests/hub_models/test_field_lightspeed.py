"""What LightSpeed's field is and shows: its sizes, where its rays and pixels are, and its sub-scenes."""

import pytest
import torch
from torch.testing import assert_close

from pocket_diffusers.hub_models.field_lightspeed import LightSpeedField
from pocket_diffusers.hub_models.losses.photometric import psnr
from pocket_diffusers.hub_models.rendering.cameras import intrinsics, look_at
from pocket_diffusers.hub_models.rendering.light_slab import LightSlab
from pocket_diffusers.hub_models.rendering.pixel_rays import pixel_rays

TINY = {"grid_resolutions": (3, 6), "grid_channels": 2, "width": 8, "blocks": 1, "tail_channels": (6, 4, 4)}
LEANING = look_at((0.2, -0.3, -2.0), (0.0, 0.1, 1.0))


def slab(frame=None, near=0.5, far=3.0):
    ends = torch.tensor([-1.0, -1.5, -2.0, -1.0]), torch.tensor([1.0, 1.0, 1.5, 2.0])
    return LightSlab(torch.eye(4) if frame is None else frame, near, far, *ends)


def make(**changes):
    torch.manual_seed(0)
    field = LightSpeedField(**{**TINY, **changes}).eval()
    with torch.no_grad():
        for parameter in field.parameters():
            parameter.normal_(0, 0.5)
    for index in range(len(field.sub_scenes)):
        field.set_slab(index, slab(LEANING, 0.5, 3 + index), torch.tensor([index, 0.0, 0.0]))
    return field


def rays(batch=2, height=3, width=4):
    generator = torch.Generator().manual_seed(1)
    origins, directions = 0.4 * torch.randn(2, batch, 3, height, width, generator=generator)
    directions[:, 2] = 1
    return origins, directions


def count(preset):
    with torch.device("meta"):
        field = LightSpeedField.from_preset(preset)
        shape = field(*torch.empty(2, 1, 3, 5, 7)).shape
    assert shape == (1, 3, 5 * field.scale, 7 * field.scale)
    return sum(parameter.numel() for parameter in field.parameters())


def test_presets_have_the_derived_sizes():
    grids, decoder, decoder_of_12 = 8_355_840, 2_261_123, 2_261_123 - 7_168
    assert count("paper") == 5 * (grids + decoder)
    assert count("paper-frontal") == grids + decoder_of_12
    assert count("nano") == 711_123


@pytest.mark.parametrize("sub_scene", [0, 1])
@torch.no_grad()
def test_a_picture_is_the_decoder_s_of_hits_on_two_planes(sub_scene):
    field = make(num_sub_scenes=2)
    origins, directions = rays()
    start = torch.einsum("ij,bjhw->bihw", LEANING[:3, :3], origins) + LEANING[:3, 3, None, None]
    step = torch.einsum("ij,bjhw->bihw", LEANING[:3, :3], directions)
    hits = [start[:, :2] + (z - start[:, 2:]) / step[:, 2:] * step[:, :2] for z in (0.5, 3.0 + sub_scene)]
    low, high = (value[:, None, None] for value in (slab().low, slab().high))
    coordinates = 2 * (torch.cat(hits, 1) - low) / (high - low) - 1
    part = field.sub_scenes[sub_scene]
    picture = field(origins, directions, sub_scene)
    assert_close(picture, part.decoder(part.grid(coordinates)), atol=1e-5, rtol=1e-4)
    assert picture.shape == (2, 3, 24, 32) and 0 <= picture.min() < picture.max() <= 1
    assert_close(field(origins, 3 * directions, sub_scene), picture, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_every_pixel_shows_what_its_own_ray_hits():
    """A ramp painted on the second plane, away from the border: no half-pixel shift between rays and pixels."""
    field = LightSpeedField(
        grid_resolutions=(9,), grid_channels=1, width=1, blocks=1, tail_channels=(1,) * 3, body_skip=False
    )
    field = field.double().eval()
    (part,) = field.sub_scenes
    for parameter in field.parameters():
        parameter.zero_()
    along = torch.linspace(-1, 1, 9, dtype=torch.float64)
    part.grid.levels[0][5, 0] = 20 + 3 * along + 2 * along[:, None]  # the plane of u and v
    part.decoder.head[0].weight[0, 5] = 1
    taps = torch.tensor([0.25, 0.75, 0.75, 0.25])
    for stage in part.decoder.tail:
        stage[0].weight.copy_(torch.outer(taps, taps))
    part.decoder.to_rgb[0].weight.fill_(0.1)
    field.set_slab(0, slab(), torch.zeros(3))

    viewmat, K = torch.eye(4).double(), torch.tensor([[100.0, 0, 24], [0, 100, 24], [0, 0, 1]]).double()
    bundle = (value.movedim(-1, 0)[None] for value in pixel_rays(viewmat, K, 48, 48, scale=8))
    picture = 10 * torch.logit(field(*bundle))[0, 0]
    x, y = torch.meshgrid(*2 * [(torch.arange(48).double() + 0.5 - 24) / 100], indexing="xy")
    own = torch.stack([x, y, torch.ones_like(x)])[None]
    own = part.slab(torch.zeros_like(own), own)[0]
    inner = slice(12, -12)
    wanted = 20 + 3 * own[2] + 2 * own[3]
    assert wanted.std() > 0.1
    assert_close(picture[inner, inner], wanted[inner, inner], atol=1e-9, rtol=0)


@torch.no_grad()
def test_rays_keep_their_places_whatever_the_weights_precision():
    field, (origins, directions) = make(), rays()
    (part,) = field.sub_scenes
    places, picture = part.slab(origins, directions), field(origins, directions)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(part.slab(origins, directions), places)
    field.bfloat16()
    assert torch.equal(part.slab(origins, directions), places)
    assert field(origins, directions).dtype == torch.bfloat16
    assert (field(origins, directions) - picture).norm() < 0.05 * picture.norm()


def test_slabs_are_saved_and_loaded_exactly(tmp_path):
    field = make(num_sub_scenes=2)
    field.half().save_pretrained(tmp_path)
    for options in ({}, {"torch_dtype": torch.float16}):
        loaded = LightSpeedField.from_pretrained(tmp_path, **options)
        for index in range(2):
            for name, value in vars(slab(LEANING, 0.5, 3.0 + index)).items():
                assert torch.equal(getattr(loaded.slab(index), name), torch.as_tensor(value)), name
        assert torch.equal(loaded.clusters.centres, torch.tensor([[0.0, 0, 0], [1, 0, 0]]))


@torch.no_grad()
def test_cameras_are_shown_by_the_sub_scene_whose_cameras_are_nearest_and_blended_near_a_border():
    field = make(num_sub_scenes=3)
    places = torch.tensor([[-4.0, 9, -9], [1.1, 0, 0], [0.5, 1, -1], [7.0, 0, -2]])
    viewmats = torch.eye(4).repeat(4, 1, 1)
    viewmats[:, :3, 3] = -places
    Ks = intrinsics(50.0, 16, 24).repeat(4, 1, 1)
    origins, directions = (rays.movedim(-1, 1) for rays in pixel_rays(viewmats, Ks, 16, 24, scale=8))
    pictures = [field(origins, directions, index) for index in range(3)]
    shown = field.show(viewmats, Ks, 16, 24)
    wanted = [pictures[0][0], pictures[1][1], (pictures[0][2] + pictures[1][2]) / 2, pictures[2][3]]
    assert_close(shown, torch.stack(wanted), atol=1e-5, rtol=1e-5)
    field.bfloat16()
    assert field.show(viewmats, Ks, 16, 24).dtype == torch.bfloat16


def test_gradients_reach_rays_and_every_parameter_of_the_sub_scene_alone():
    field, (origins, directions) = make(num_sub_scenes=2), rays()
    origins.requires_grad_()
    directions.requires_grad_()
    field(origins, directions, 1).square().mean().backward()
    assert origins.grad.abs().sum() > 0 and directions.grad.abs().sum() > 0
    assert all(parameter.grad.abs().sum() > 0 for parameter in field.sub_scenes[1].parameters())
    assert all(parameter.grad is None for parameter in field.sub_scenes[0].parameters())


def view(x, y, step, size=32):
    """Rays of a camera at (x, y, 0) that looks along z, through the middles of blocks of step x step pixels."""
    middles = (torch.arange(size // step) + 0.5) * step / size - 0.5
    directions = torch.stack([*torch.meshgrid(middles, middles, indexing="xy"), torch.ones(size // step, size // step)])
    return torch.tensor([x, y, 0.0])[:, None, None].expand_as(directions), directions


def scene(origins, directions):
    """A red disc at z = 1 before a painting at z = 2."""
    x, y = (origins + 2 * directions)[:2]
    painting = 0.5 + 0.4 * torch.stack([torch.sin(5 * x), torch.cos(4 * y), torch.sin(3 * (x + y))])
    disc = (origins + directions)[:2].square().sum(0) < 0.04
    return torch.where(disc, torch.tensor([0.9, 0.1, 0.2])[:, None, None], painting)


def test_a_field_of_a_camera_grid_shows_a_view_that_was_left_out():
    steps = (-0.2, -0.1, 0.0, 0.1, 0.2)
    places = [(x, y) for x in steps for y in steps if (x, y) != (0, 0)]
    origins, directions = (torch.stack(rays) for rays in zip(*(view(*place, 8) for place in places), strict=True))
    pictures = torch.stack([scene(*view(*place, 1)) for place in places])
    torch.manual_seed(0)
    options = {"grid_resolutions": (8, 16, 32), "width": 32, "blocks": 2, "tail_channels": (24, 16, 16)}
    field = LightSpeedField(**{**TINY, **options}).train()
    last = (value.movedim(1, -1) for value in (origins, directions))
    field.set_slab(0, LightSlab.of_rays(torch.eye(4), 0.0, 1.5, *last), torch.zeros(3))
    (part,) = field.sub_scenes
    rates = [{"params": part.grid.parameters(), "lr": 2e-2}, {"params": part.decoder.parameters(), "lr": 5e-3}]
    optimizer = torch.optim.AdamW(rates)
    for _ in range(120):
        few = torch.randperm(len(places))[:6]
        optimizer.zero_grad()
        (field(origins[few], directions[few]) - pictures[few]).square().mean().backward()
        optimizer.step()
    with torch.no_grad():
        shown = field.eval()(*(value[None] for value in view(0, 0, 8)))
    wanted = scene(*view(0, 0, 1))[None]
    neighbours = psnr(pictures, wanted, peak=1.0)
    assert psnr(shown, wanted, peak=1.0) > max(20.0, neighbours.max() + 3)


def test_bad_rays_and_sub_scenes_are_refused_in_one_sentence():
    field, (origins, directions) = make(), rays()
    with pytest.raises(ValueError, match=r"must be \[batch, 3, height, width\], not \[2, 3, 3, 4\], \[2, 3, 3\]"):
        field(origins, directions[..., 0])
    with pytest.raises(ValueError, match="must be .batch, 3, height, width.*"):
        field(origins.flatten(2), directions.flatten(2))
    for viewmats, Ks in ((torch.eye(4), torch.eye(3)), (torch.eye(4)[None], torch.eye(3).repeat(2, 1, 1))):
        sentence = rf"viewmats and Ks must be .* not {list(viewmats.shape)} and {list(Ks.shape)}\.".replace("[", r"\[")
        with pytest.raises(ValueError, match=sentence):
            field.show(viewmats, Ks, 8, 8)
    with pytest.raises(ValueError, match="height and width must be multiples of 8, not 8 and 12"):
        field.show(torch.eye(4)[None], torch.eye(3)[None], 8, 12)
    for index in (-1, 1):
        with pytest.raises(ValueError, match=f"sub_scene must be from 0 to 0, not {index}"):
            field(origins, directions, index)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"near": 3.0}, r"far must be above near, 3\.0, not 3\.0"),
        ({"high": torch.tensor([1.0, -1.5, 1, 2])}, r"high must be above low, \[-1.0, -1.5, -2.0, -1.0\], not"),
        ({"far": float("inf")}, r"far must be finite and \[\], not inf"),
        ({"frame": torch.full((4, 4), torch.nan)}, r"frame must be finite and \[4, 4\], not"),
    ],
)
def test_bad_slabs_are_refused_and_change_nothing(changes, message):
    field = make()
    before = {name: value.clone() for name, value in field.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        field.set_slab(0, LightSlab(**{**vars(slab()), **changes}), torch.zeros(3))
    with pytest.raises(ValueError, match=r"centre must be finite and \[3\]"):
        field.set_slab(0, slab(), torch.zeros(2))
    assert all(torch.equal(value, before[name]) for name, value in field.state_dict().items())
