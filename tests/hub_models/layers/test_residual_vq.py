import numpy as np
import pytest
import torch

from pocket_diffusers.hub_models.layers.residual_vq import NO_CODE, ResidualVQ


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def clusters(batch=8, tokens=32, width=6, seed=1):
    """Vectors about a few centres, so that codes have something to find."""
    centres = torch.randn(10, width, generator=seeded(seed)) * 2
    which = torch.randint(10, (batch, tokens), generator=seeded(seed + 1))
    return centres[which] + 0.3 * torch.randn(batch, tokens, width, generator=seeded(seed + 2))


def make(layers=3, codes=16, width=6, train=True, **options):
    torch.manual_seed(0)
    quiet = {"temperature": 0.0, "dropout": 0.0}
    return ResidualVQ(layers, codes, width, **{**quiet, **options}).train(train)


def taught(steps=40, **options):
    vq = make(**options)
    for step in range(steps):
        vq(clusters(), seeded(step))
    return vq


def distances(a, b):
    """[len(a), len(b)], without the rounding of a product."""
    return (a[:, None] - b[None]).norm(dim=-1)


def nearest(vectors, book):
    """By the definition: squared distances to every code."""
    return ((vectors[:, None] - book[None]) ** 2).sum(-1).argmin(-1)


def test_codebooks_are_buffers_that_are_saved():
    vq = make()
    assert not list(vq.parameters())
    assert {name: tuple(value.shape) for name, value in vq.state_dict().items()} == {
        "codebooks": (3, 16, 6), "counts": (3, 16)
    }  # fmt: skip


def test_codes_are_the_nearest_to_what_is_left_over():
    vq = taught().eval()
    z = clusters(seed=9)
    left, wanted = z.flatten(0, 1).double().numpy(), []
    for book in vq.codebooks.double().numpy():
        wanted.append(nearest(left, book))
        left = left - book[wanted[-1]]
    codes = vq(z)
    assert np.array_equal(codes.ids.flatten(0, 1).numpy(), np.stack(wanted, -1))
    torch.testing.assert_close(codes.vectors.flatten(0, 1).double(), z.flatten(0, 1).double() - torch.tensor(left))
    assert torch.equal(vq.encode(z), codes.ids)
    assert torch.equal(vq.embed(codes.ids), codes.vectors)


def test_the_error_falls_with_every_layer():
    vq = taught(layers=5).eval()
    z = clusters()
    ids = vq.encode(z)
    errors = [(z - vq.embed(ids[..., :kept])).square().mean().item() for kept in range(1, 6)]
    assert all(later < 0.9 * earlier for earlier, later in zip(errors, errors[1:], strict=False)), errors
    assert errors[0] < 0.1 * z.square().mean()


def test_commitment_is_the_mean_over_layers_of_squared_distances():
    vq = taught().eval()
    z = clusters(seed=4)
    codes = vq(z)
    wanted = [(z - vq.embed(codes.ids[..., :kept])).square().mean() for kept in (1, 2, 3)]
    torch.testing.assert_close(codes.commitment, sum(wanted) / 3)


class NumpyTwin:
    """One layer's codes by exponential moving averages of counts and sums, kept apart as papers write them."""

    def __init__(self, book, decay):
        self.decay, self.counts, self.sums = decay, np.ones(len(book)), book.copy()

    @property
    def book(self):
        return self.sums / self.counts[:, None]

    def step(self, vectors, chosen):
        for code in range(len(self.counts)):
            mine = vectors[chosen == code]
            self.counts[code] = self.decay * self.counts[code] + (1 - self.decay) * len(mine)
            self.sums[code] = self.decay * self.sums[code] + (1 - self.decay) * mine.sum(0)


@pytest.mark.parametrize("decay", [0.99, 0.5])
def test_codes_follow_by_moving_averages_of_counts_and_sums(decay):
    """For many batches, without resets."""
    vq = make(layers=1, codes=8, decay=decay, reset_below=1e-6)
    vq(clusters(seed=20), seeded())
    vq.codebooks.copy_(torch.randn(1, 8, 6, generator=seeded(3)))
    vq.counts.fill_(1)
    twin = NumpyTwin(vq.codebooks[0].double().numpy(), decay)
    for step in range(12):
        z = clusters(seed=30 + 3 * step)
        twin.step(z.flatten(0, 1).double().numpy(), vq(z).ids.flatten().numpy())
        assert np.allclose(vq.counts[0], twin.counts, rtol=1e-5)
        assert np.allclose(vq.codebooks[0], twin.book, rtol=1e-4, atol=1e-5)


def test_every_layer_learns_what_the_ones_before_left_over():
    vq = taught()
    before = vq.codebooks.clone(), vq.counts.clone()
    z = clusters(seed=5)
    chosen = vq(z).ids.flatten(0, 1).numpy()
    left = z.flatten(0, 1).double().numpy()
    for layer in range(3):
        book, counts = before[0][layer].double().numpy(), before[1][layer].double().numpy()
        twin = NumpyTwin(book, 0.99)
        twin.counts, twin.sums = counts.copy(), book * counts[:, None]
        twin.step(left, chosen[:, layer])
        alive = twin.counts >= 1
        assert alive.sum() > 3
        assert np.allclose(vq.codebooks[layer][alive], twin.book[alive], rtol=1e-4, atol=1e-5)
        left = left - book[chosen[:, layer]]


def test_the_first_batch_gives_the_codes():
    vq = make(layers=1, decay=1 - 1e-7, reset_below=0.5)  # so slow that codes stay where they begin
    z = clusters()
    vq(z, seeded())
    assert distances(vq.codebooks[0], z.flatten(0, 1)).amin(1).max() < 1e-4
    assert distances(vq.codebooks[0], vq.codebooks[0]).fill_diagonal_(1).min() > 1e-3, "none twice"


def test_dead_codes_become_vectors_of_the_batch_and_begin_anew():
    vq = taught(layers=1)
    vq.codebooks[0, [2, 7]] = 1e3  # nothing is near
    vq.counts[0, [2, 7]] = 1.005
    z = clusters(seed=6)
    vq(z, seeded(8))
    assert distances(vq.codebooks[0, [2, 7]], z.flatten(0, 1)).amin(1).max() == 0
    assert vq.counts[0, [2, 7]].tolist() == [1, 1]
    assert not torch.equal(vq.codebooks[0, 2], vq.codebooks[0, 7])


def test_a_code_that_is_still_counted_lives_on():
    vq = taught(layers=1)
    vq.codebooks[0, 2] = 1e3
    vq.counts[0, 2] = 5.0
    vq(clusters(seed=6))
    assert vq.counts[0, 2].item() == pytest.approx(4.95)
    assert torch.allclose(vq.codebooks[0, 2], torch.tensor(1e3))


def test_a_batch_with_fewer_vectors_than_codes_gives_copies_with_a_little_noise():
    vq = make(layers=1, codes=40, decay=1 - 1e-7, reset_below=0.5)
    z = torch.randn(1, 15, 6, generator=seeded())
    vq(z, seeded())
    nearest_of = distances(vq.codebooks[0], z[0])
    assert 0 < nearest_of.amin(1).max() < 6 * 0.01  # a channel's deviation is 0.01 / sqrt(6)
    assert nearest_of.argmin(1).bincount(minlength=15).max() == 3


def test_gradients_pass_straight_through_every_layer():
    """Each layer adds its code with the gradient of what it quantised, which is the vector less constants."""
    vq = taught().eval()
    z = clusters().requires_grad_()
    weights = torch.randn(z.shape, generator=seeded())
    (vq(z).vectors * weights).sum().backward()
    torch.testing.assert_close(z.grad, 3 * weights)


def test_commitment_draws_vectors_to_their_codes():
    vq = taught(layers=1).eval()
    z = clusters(seed=4).requires_grad_()
    codes = vq(z)
    codes.commitment.backward()
    torch.testing.assert_close(z.grad, 2 * (z - vq.embed(codes.ids)).detach() / z.numel())


def test_quantise_dropout_keeps_the_first_layers():
    vq = taught(layers=4, dropout=1.0)
    seen = set()
    for seed in range(60):
        before = vq.codebooks.clone()
        codes = vq(clusters(), seeded(seed))
        kept = int((codes.ids[0, 0] != NO_CODE).sum())
        seen.add(kept)
        assert (codes.ids[..., :kept] >= 0).all() and (codes.ids[..., kept:] == NO_CODE).all()
        changed = (vq.codebooks != before).flatten(1).any(1)
        assert changed.tolist() == [True] * kept + [False] * (4 - kept)
    assert seen == {1, 2, 3, 4}


def test_quantise_dropout_has_its_chance_and_training_only():
    vq = taught(layers=3, dropout=0.2)
    z = clusters(batch=1, tokens=4)
    dropped = sum((vq(z, seeded(seed)).ids == NO_CODE).any().item() for seed in range(300))
    assert dropped == pytest.approx(300 * 0.2 * 2 / 3, abs=20)  # a third of the drops keeps all three layers
    vq.eval()
    assert (vq(z).ids != NO_CODE).all()


def test_gumbel_noise_chooses_by_the_softmax_of_distances_over_temperature():
    """The frequencies of perturbed choices are the probabilities of the softmax of -distance / temperature."""
    vq = make(layers=1, codes=4, width=2, temperature=0.5)
    vq.codebooks.copy_(torch.tensor([[[0.0, 0], [0.6, 0], [0, 0.9], [-1.2, 0]]]))
    vq.counts.fill_(1)
    z = torch.full((1, 40_000, 2), 0.1)
    chosen = vq(z, seeded()).ids.flatten()
    squares = ((torch.tensor([[0.0, 0], [0.6, 0], [0, 0.9], [-1.2, 0]]) - 0.1) ** 2).sum(1)
    wanted = (-squares / 0.5).softmax(0)
    torch.testing.assert_close(chosen.bincount(minlength=4) / 40_000, wanted, atol=0.01, rtol=0)


def test_a_generator_decides_everything():
    """The global seed has no say."""

    def run(seed):
        vq = make(temperature=0.5, dropout=0.5)
        torch.manual_seed(torch.seed() % 1000)
        ids = [vq(clusters(batch=1, tokens=9), generator).ids for generator in [seeded(seed)] for _ in range(6)]
        return torch.stack(ids), vq.codebooks

    one, again, other = run(1), run(1), run(2)
    assert torch.equal(one[0], again[0]) and torch.equal(one[1], again[1])
    assert not torch.equal(one[1], other[1])


def test_outside_of_training_nothing_is_learnt():
    vq = taught(temperature=0.5, dropout=0.5).eval()
    before = {name: value.clone() for name, value in vq.state_dict().items()}
    z = clusters(seed=7)
    assert torch.equal(vq(z).ids, vq(z).ids)
    assert all(torch.equal(value, before[name]) for name, value in vq.state_dict().items())
    vq.train()
    vq.encode(z)
    assert all(torch.equal(value, before[name]) for name, value in vq.state_dict().items())


def test_half_precision_around_it_does_not_change_the_choice():
    vq = taught().eval()
    z = clusters(seed=8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(vq(z).ids, vq.encode(z))
    assert vq(z.bfloat16()).vectors.dtype == torch.bfloat16


def test_embedding_of_some_layers_and_of_none():
    vq = taught().eval()
    ids = vq.encode(clusters())
    later = ids.clone()
    later[..., 0] = NO_CODE
    torch.testing.assert_close(vq.embed(ids[..., :1]) + vq.embed(later), vq.embed(ids))
    assert not vq.embed(torch.full_like(ids, NO_CODE)).any()


def test_expected_codes_of_certainty_are_the_codes():
    vq = taught().eval()
    ids = vq.encode(clusters())
    sure = torch.nn.functional.one_hot(ids[..., 0], 16).float()
    torch.testing.assert_close(vq.expect(sure), vq.embed(ids[..., :1]))
    even = torch.full((1, 1, 16), 1 / 16, requires_grad=True)
    torch.testing.assert_close(vq.expect(even, layer=1)[0, 0], vq.codebooks[1].mean(0))
    vq.expect(even).sum().backward()
    torch.testing.assert_close(even.grad[0, 0], vq.codebooks[0].sum(1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decay": 1.0}, "decay must be between 0 and 1, not 1.0"),
        ({"reset_below": 0.0}, "reset_below must be above 0 and at most 1, .* not 0.0"),
        ({"reset_below": 2.0}, "reset_below must be above 0 and at most 1, .* not 2.0"),
        ({"temperature": -0.5}, "temperature must be at least 0, not -0.5"),
        ({"dropout": 1.5}, "dropout must be a chance from 0 to 1, not 1.5"),
    ],
)
def test_options_out_of_range_raise(options, message):
    with pytest.raises(ValueError, match=message):
        make(**options)
