import torch
from torch import nn

from pocket_diffusers.hub_models.losses.adversarial import (
    PatchDiscriminator,
    hinge_discriminator_loss,
    hinge_generator_loss,
)


def test_hinge_losses_in_closed_form():
    real, fake = torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.25])
    assert hinge_discriminator_loss(real, fake).item() == 0.5 * (0.25 + 0.625)
    assert hinge_generator_loss(fake).item() == 1.375


def test_hinge_leaves_confident_judgements_alone():
    real = torch.tensor([1.5], requires_grad=True)
    fake = torch.tensor([-1.5], requires_grad=True)
    hinge_discriminator_loss(real, fake).backward()
    assert real.grad.item() == fake.grad.item() == 0


def test_discriminator_judges_patches_of_the_size_it_says():
    discriminator = PatchDiscriminator(3, width=8, layers=2)
    assert all(p.grad is None for p in discriminator.parameters())
    for index, layer in enumerate(discriminator.layers):
        if isinstance(layer, nn.GroupNorm):  # its statistics see the whole picture
            discriminator.layers[index] = nn.Identity()
    pixels = torch.randn(1, 3, 64, 64, requires_grad=True)
    verdict = discriminator(pixels)
    assert verdict.shape == (1, 1, 15, 15)
    verdict[0, 0, 7, 7].backward()
    seen = pixels.grad.abs().sum(dim=(0, 1, 2)).nonzero()
    assert (seen.max() - seen.min() + 1).item() == 3 * 2**3 - 2


def test_discriminator_learns_to_tell_flat_from_noisy():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(1, width=8, layers=2)
    optimizer = torch.optim.Adam(discriminator.parameters(), 2e-3)
    for _ in range(30):
        real, fake = torch.randn(8, 1, 16, 16), torch.randn(8, 1, 1, 1).expand(8, 1, 16, 16)
        loss = hinge_discriminator_loss(discriminator(real), discriminator(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(parameter.grad.abs().sum() > 0 for parameter in discriminator.parameters())
    assert loss.item() < 0.3
