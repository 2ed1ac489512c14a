import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler

from pocket_diffusers.hub_models.unet_ascan import AsCANUNet2DModel
from pocket_diffusers.training.objectives.class_denoising import ClassDenoising, LabelledLatents, noised

TINY = {
    "sample_size": 4, "in_channels": 4, "out_channels": 4, "widths": (16, 32), "down_stages": ("C", "T"), "head_dim": 8,
    "num_classes": 3, "emb_dim": 16,
}  # fmt: skip


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair():
    return torch.randn(64, 4, 4, 4, generator=generator(1)), torch.randn(64, 4, 4, 4, generator=generator(2))


def test_flow_is_the_straight_path(pair):
    x0, noise = pair
    x, timesteps, target = noised(FlowMatchEulerDiscreteScheduler(), x0, noise, generator())
    sigma = (timesteps / 1000).view(-1, 1, 1, 1)
    assert torch.allclose(x, (1 - sigma) * x0 + sigma * noise, atol=1e-4) and torch.equal(target, noise - x0)
    assert ((timesteps > 0) & (timesteps < 1000)).all()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_ddpm_targets_lead_back_to_the_picture(pair, kind):
    x0, noise = pair
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", prediction_type=kind)
    x, timesteps, target = noised(scheduler, x0, noise, generator())
    alpha = scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    assert torch.allclose(x, alpha.sqrt() * x0 + (1 - alpha).sqrt() * noise, atol=1e-5)
    back = {
        "epsilon": (x - (1 - alpha).sqrt() * target) / alpha.sqrt(),
        "v_prediction": alpha.sqrt() * x - (1 - alpha).sqrt() * target,
        "sample": target,
    }[kind]
    early = timesteps < 500  # later there is too little of the picture left for float32
    assert torch.allclose(back[early], x0[early], atol=1e-3)


def test_another_scheduler_is_refused(pair):
    with pytest.raises(ValueError, match="scheduler is a DDIMScheduler; it must be FlowMatchEulerDiscrete or DDPM"):
        noised(DDIMScheduler(), *pair, generator())


class Recorder(torch.nn.Module):
    """Stands for a UNet, and remembers the labels it was given."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.config = type("Config", (), {"num_classes": 3})
        self.labels = None

    def forward(self, x, timesteps, labels, return_dict):
        self.labels = labels
        return (x * self.weight,)


def test_labels_are_dropped_as_often_as_told():
    unet = Recorder()
    data = LabelledLatents(torch.zeros(4000, 4, 2, 2), torch.arange(4000) % 3)
    objective = ClassDenoising(unet, FlowMatchEulerDiscreteScheduler(), data, 1e-3, label_drop=0.2)
    loss, _ = objective.loss("unet", torch.arange(4000), generator())
    kept = unet.labels != 3
    assert float((~kept).float().mean()) == pytest.approx(0.2, abs=0.03)
    assert torch.equal(unet.labels[kept], data.labels[kept])
    assert float(loss.detach()) == pytest.approx(1.0, abs=0.05)  # nothing is predicted of a velocity that is all noise


def test_a_step_lowers_the_loss_it_was_made_for():
    torch.manual_seed(0)
    unet = AsCANUNet2DModel(**TINY)
    data = LabelledLatents(torch.randn(8, 4, 4, 4, generator=generator()), torch.arange(8) % 3)
    objective = ClassDenoising(unet, FlowMatchEulerDiscreteScheduler(), data, 3e-3, label_drop=0.1)
    optimizer, losses = objective.optimizer("unet"), []
    for _ in range(30):
        loss, _ = objective.loss("unet", torch.arange(8), generator())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
