"""What ControlMM's motion tokenizer is and computes; what all models promise is in `tests/contracts`."""

import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.autoencoder_controlmm import MotionRVQVAE

TINY = {"features": 7, "width": 12, "depth": 2, "dropout": 0.0, "num_quantizers": 3, "num_codes": 16, "code_width": 6}


def make(**changes):
    torch.manual_seed(0)
    return MotionRVQVAE(**{**TINY, **changes}).eval()


def on_meta(preset, **overrides):
    with torch.device("meta"):
        return MotionRVQVAE.from_preset(preset, **overrides)


def count(module):
    return sum(parameter.numel() for parameter in module.parameters())


def motion(batch=2, frames=24, features=7):
    return torch.randn(batch, frames, features, generator=torch.Generator().manual_seed(1))


def swings(batch=4, frames=32, seed=2):
    """Smooth motion of a few frequencies, as a body's."""
    generator = torch.Generator().manual_seed(seed)
    times = torch.arange(frames)[None, :, None] / 20
    speeds, phases = torch.rand(2, batch, 1, 7, generator=generator) * torch.tensor([2.0, 6.28])[:, None, None, None]
    return torch.sin(6.28 * speeds * times + phases)


def test_paper_has_the_derived_sizes():
    model = on_meta("paper")
    assert (count(model.encoder), count(model.decoder)) == (9_587_200, 9_849_607)
    assert count(model) == 19_436_807
    assert model.quantizer.codebooks.shape == (6, 512, 512)
    assert model.frames_per_token == 4


def test_nano_leaves_room_in_a_repository_of_eight_megabytes():
    model = on_meta("nano")
    assert count(model) + model.quantizer.codebooks.numel() < 1.1e6
    assert model.config.num_codes == 512 and model.config.num_quantizers == 6


def test_motion_becomes_codes_and_codes_motion():
    model, x = make(), motion()
    ids = model.encode(x)
    assert ids.shape == (2, 6, 3) and ids.dtype == torch.long and ids.min() >= 0 and ids.max() < 16
    latents = model.embed(ids)
    assert torch.equal(latents, sum(model.quantizer.codebooks[layer][ids[..., layer]] for layer in range(3)))
    assert model.decode(latents).shape == x.shape
    assert torch.equal(model.decode_ids(ids), model.decode(latents))
    output = model(x)
    assert torch.equal(output.ids, ids) and torch.equal(output.sample, model.decode(latents))
    assert torch.equal(model(x, return_dict=False)[0], output.sample)


def test_first_layers_alone_decode_too():
    model = make()
    ids = model.encode(motion())
    assert torch.equal(model.decode_ids(ids[..., :1]), model.decode(model.quantizer.codebooks[0][ids[..., 0]]))


@pytest.mark.parametrize("frames", [24, 25, 27])
def test_frames_behind_the_last_whole_token_are_left_out(frames):
    model, x = make(), motion(frames=27)
    x[:, 24:] = 100
    assert torch.equal(model.encode(x[:, :frames]), model.encode(x[:, :24]))
    assert model(x[:, :frames]).sample.shape == (2, 24, 7)


def test_padding_has_no_codes_no_motion_and_no_influence():
    model, x = make(), motion()
    padding = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    ids = model.encode(x, padding)
    assert torch.equal(ids[1:, :4], model.encode(x[1:, :16])) and (ids[1, 4:] == -1).all()
    assert torch.equal(ids[0], model.encode(x)[0])
    decoded = model.decode_ids(ids, padding)
    torch.testing.assert_close(decoded[1:, :16], model.decode_ids(ids[1:, :4]), atol=1e-6, rtol=1e-5)
    assert not decoded[1, 16:].any()
    assert not model.embed(ids)[1, 4:].any()


def test_expectation_of_certain_codes_is_their_embedding_and_gradients_flow():
    model = make()
    ids = model.encode(motion())[..., :1]
    logits = torch.full((2, 6, 16), -40.0).scatter(-1, ids, 40.0)
    torch.testing.assert_close(model.expect(logits.softmax(-1)), model.embed(ids))
    free = torch.zeros(2, 6, 16, requires_grad=True)
    model.decode(model.expect(free.softmax(-1))).square().sum().backward()
    assert free.grad.abs().sum() > 0


def test_an_unknown_token_is_the_mean_code():
    model = make()
    even = torch.full((1, 1, 16), 1 / 16)
    torch.testing.assert_close(model.mask_latent, model.expect(even)[0, 0])


def test_training_brings_motion_back_and_teaches_the_codes():
    """On a few swings: much better than their mean, better with each layer of codes, and most codes in use."""
    model = make(width=24, gumbel_temperature=0.1, quantize_dropout=0.0).train()
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3, betas=(0.9, 0.99), weight_decay=0.0)
    generator, x = torch.Generator().manual_seed(0), swings()
    for _ in range(80):
        output = model(x, generator)
        loss = torch.nn.functional.smooth_l1_loss(output.sample, x) + 0.02 * output.commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.eval()
    ids = model.encode(x)
    errors = [(model.decode_ids(ids[..., :kept]) - x).square().mean().item() for kept in (1, 2, 3)]
    assert errors[2] < errors[1] < errors[0] and errors[2] < 0.1 * x.var().item(), errors
    assert len(ids[..., 0].unique()) > 8


def test_a_generator_makes_training_the_same_again():
    one, again = make(gumbel_temperature=0.5).train(), make(gumbel_temperature=0.5).train()
    outputs = [model(motion(), torch.Generator().manual_seed(3)) for model in (one, again)]
    assert torch.equal(outputs[0].sample, outputs[1].sample)
    assert torch.equal(one.quantizer.codebooks, again.quantizer.codebooks)


def test_codes_learn_once_a_step_with_checkpointing_too():
    plain, spared = make().train(), make().train()
    spared.enable_gradient_checkpointing()
    for model in (plain, spared):
        model(motion(), torch.Generator().manual_seed(3)).sample.square().mean().backward()
    assert torch.equal(plain.quantizer.counts, spared.quantizer.counts)
    assert torch.equal(plain.quantizer.codebooks, spared.quantizer.codebooks)


def test_codes_that_were_learned_come_back(tmp_path):
    model = make().train()
    model(motion(), torch.Generator().manual_seed(3))
    model.eval().save_pretrained(tmp_path)
    loaded = MotionRVQVAE.from_pretrained(tmp_path)
    assert torch.equal(loaded.quantizer.codebooks, model.quantizer.codebooks) and loaded.quantizer.counts.any()
    assert torch.equal(loaded.encode(motion()), model.encode(motion()))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m.encode(torch.zeros(2, 24, 7), torch.zeros(2, 24, dtype=torch.bool)), r"= \[2, 6\], not"),
        (lambda m: m.embed(torch.zeros(2, 6, dtype=torch.long)), r"ids must be \[batch, tokens, 1 to 3 layers\]"),
        (lambda m: m.embed(torch.zeros(2, 6, 4, dtype=torch.long)), r"1 to 3 layers\], not \[2, 6, 4\]"),
        (lambda m: m.decode(torch.zeros(2, 6, 5)), r"latents must be \[batch, tokens, 6\], not \[2, 6, 5\]"),
        (lambda m: m.decode(torch.zeros(2, 6, 6), torch.zeros(2, 6)), r"padding must be booleans .* not torch.float32"),
    ],
)
def test_shapes_that_do_not_fit_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(make())


def test_statistics_are_kept_with_the_weights(tmp_path):
    model = make()
    features = motion()
    assert torch.equal(model.normalized(features), features) and torch.equal(model.denormalized(features), features)
    mean, std = torch.arange(7.0), torch.tensor([0.5, 1, 2, 4, 8, 16, 0.0005])
    model.set_statistics(mean, std)
    model.save_pretrained(tmp_path)
    stored = MotionRVQVAE.from_pretrained(tmp_path)
    normalized = stored.normalized(features)
    np.testing.assert_allclose(
        normalized.numpy(), (features.numpy() - mean.numpy()) / std.numpy(), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(stored.denormalized(normalized), features, rtol=1e-5, atol=1e-6)
    free = normalized.clone().requires_grad_(True)
    stored.denormalized(free).sum().backward()
    assert torch.equal(free.grad, std.expand_as(features))
    half = stored.to(torch.float16)
    assert (
        half.normalized(features).dtype == torch.float16 and half.denormalized(features.half()).dtype == torch.float32
    )


@pytest.mark.parametrize(
    ("mean", "std", "sentence"),
    [
        (torch.zeros(6), torch.ones(7), r"^mean must be \[7\] and finite, not \[6\] with values up to 0\.$"),
        (
            torch.zeros(7),
            torch.full((7,), torch.nan),
            r"^std must be \[7\] and finite, not \[7\] with values up to nan",
        ),
        (torch.zeros(7), torch.tensor([1, 1, 0, 1, 1, 1, 1.0]), r"^std must be positive, not 0\.$"),
    ],
)
def test_statistics_that_do_not_fit_are_refused(mean, std, sentence):
    model = make()
    with pytest.raises(ValueError, match=sentence):
        model.set_statistics(mean, std)
    assert model.mean.eq(0).all() and model.std.eq(1).all()
