"""The paper's equations of LPGS written out tree by tree, which predictor and exports are held to."""

import math

import torch

from pocket_diffusers.hub_models.gaussians_lpgs import LPGSGaussians


def contracted(point: torch.Tensor, made: LPGSGaussians) -> torch.Tensor:
    """Equation 10 of Mip-NeRF 360, then its ball of radius 2 into the unit cube; or clamped to a box."""
    x = (point - torch.tensor(made.config.center)) / made.config.radius
    if made.config.contraction == "box":
        return torch.stack([0.5 + 0.5 * min(1.0, max(-1.0, v)) * torch.ones_like(v) for v in x])
    length = math.sqrt(sum(float(v) ** 2 for v in x))
    return ((x if length <= 1 else (2 - 1 / length) * (x / length)) + 2) / 4


def tree_by_hand(made: LPGSGaussians, parent: int) -> list[dict[str, torch.Tensor]]:
    """The nodes of one tree, the parent first."""
    config = made.config
    where, log_scale = made.parent_means[parent], made.parent_log_scales[parent]
    largest = math.exp(float(log_scale.max()))
    feature = made.grid(contracted(where, made)[None])[0]
    places = [where]
    if config.children_per_parent:
        offsets = made.position_head(made.displacement_features(feature)).view(-1, 3)
        places += [where + config.child_offset_radius * largest * torch.tanh(offset) for offset in offsets]
    tokens = [made.attribute_features(made.grid(contracted(place, made)[None])[0]) for place in places]
    if made.tree_attention is not None:
        a = made.tree_attention
        mixed = []
        for token in tokens:
            scores = [float(a.query(token) @ a.key(other)) / math.sqrt(config.grid_dim) for other in tokens]
            total = sum(math.exp(score) for score in scores)
            weighted = sum(math.exp(s) / total * a.value(other) for s, other in zip(scores, tokens, strict=True))
            mixed.append(token + weighted / (1 + math.exp(-float(a.gate))))
        tokens = mixed
    nodes = []
    for index, (place, token) in enumerate(zip(places, tokens, strict=True)):
        told = [token]
        if config.mlp_position:
            told.append(contracted(place, made))
        if config.mlp_distance:
            told.append((place - where).square().sum().sqrt()[None] / largest)
        told = torch.cat(told)
        shape = made.shape_head(told)
        nodes.append(
            {
                "means": place,
                "log_scales": log_scale + (shape[:3].clamp(-4, 4) if index else 0),
                "quaternions": shape[3:] + torch.tensor([1.0, 0, 0, 0]),
                "opacity_logits": made.opacity_head(told)[0] - math.log(9),
                "sh": made.color_head(told).view(-1, 3),
            }
        )
    return nodes
