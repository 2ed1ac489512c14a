import pytest
from PIL import Image

from pocket_diffusers.training.layer_bits_plot import COLORS, LayerBits, block_of, draw_layer_bits

pytest.importorskip("matplotlib", reason="matplotlib is not installed")

LAYERS = [
    LayerBits("conv_in", 8, 100),
    LayerBits("down_blocks.0.resnets.0.conv1", 1, 3000),
    LayerBits("up_blocks.0.resnets.0.conv1", 4, 1000),
    LayerBits("mid_block.resnets.0.conv1", 2, 1500),
]


def pixels_of(picture: Image.Image, bits: int) -> list[tuple[int, int]]:
    color = tuple(bytes.fromhex(COLORS[bits - 1][1:]))
    rows, columns = range(picture.height), range(picture.width)
    return [(x, y) for y in rows for x in columns if picture.getpixel((x, y)) == color]


def test_bars_are_as_wide_as_weights_are_many_and_as_high_as_their_bits_in_the_order_of_computing(tmp_path):
    path = draw_layer_bits(tmp_path / "new" / "bits.png", "Bits", LAYERS)
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    upper = picture.crop((0, 0, picture.width, picture.height // 2 - 20))  # by weights, without the legend
    spots = {bits: pixels_of(upper, bits) for bits in (1, 2, 4)}
    areas = {bits: len(found) for bits, found in spots.items()}
    assert areas[4] == pytest.approx(4 / 3 * areas[1], rel=0.05)  # 1000 x 4 and 3000 x 1
    assert areas[2] == pytest.approx(areas[1], rel=0.05)  # 1500 x 2
    lefts = [min(x for x, _ in spots[bits]) for bits in (1, 2, 4)]
    assert lefts == sorted(lefts), "the middle comes before the way up"
    lower = picture.crop((0, picture.height // 2, picture.width, int(0.93 * picture.height)))  # layer by layer
    spots = {bits: len(pixels_of(lower, bits)) for bits in (1, 2, 4, 8)}
    assert [spots[bits] / spots[1] for bits in (2, 4, 8)] == pytest.approx([2, 4, 8], rel=0.05)
    assert [file.name for file in path.parent.iterdir()] == ["bits.png"]


def test_blocks():
    names = ["conv_in", "down_blocks.1.resnets.0.conv1", "mid_block.attentions.0.proj_in", "transformer_blocks.12.ff"]
    assert [block_of(name) for name in names] == ["conv_in", "down_blocks.1", "mid_block", "transformer_blocks.12"]


def test_the_published_recipe_by_the_paper_s_own_counts(tmp_path):
    import torch
    from diffusers import UNet2DConditionModel

    from pocket_diffusers.hub_models.quantizer_bitsfusion import BitsFusionConfig
    from pocket_diffusers.training import layer_bits_plot

    with torch.device("meta"):
        unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    bits = BitsFusionConfig.published(range(50)).layer_bits(unet)
    layers = [LayerBits(name, own, unet.get_submodule(name).weight.numel()) for name, own in bits.items()]
    labels = [patch.get_label() for patch in layer_bits_plot._legend(layers)]
    assert labels[:3] == ["1 bit: 66 layers, 60.5%", "2 bits: 59 layers, 25.8%", "3 bits: 67 layers, 9.7%"]
    assert labels[-1] == "8 bits: 2 layers, under 0.1%"
    assert draw_layer_bits(tmp_path / "bits.png", "Published", layers).stat().st_size < 200_000


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], "layers must be at least one, not none"),
        ([LayerBits("conv_in", 9, 5)], "conv_in must have at least 1 weight of 1 to 8 bits, not 5 weights of 9 bits"),
        ([LayerBits("conv_in", 3, 0)], "conv_in must have at least 1 weight of 1 to 8 bits, not 0 weights of 3 bits"),
    ],
)
def test_what_cannot_be_drawn_is_said(tmp_path, layers, message):
    with pytest.raises(ValueError, match=message):
        draw_layer_bits(tmp_path / "bits.png", "", layers)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="cannot write"):
        draw_layer_bits(tmp_path / "file" / "bits.png", "", LAYERS)
