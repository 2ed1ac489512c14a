"""Every Gaussian at every pixel in float64, written from the formulas: what the forms of the rasteriser are held to."""

import torch


def render(gaussians, viewmat, K, width, height, antialias=False, near=0.01):
    """RGB over black, sum of depth times weight, alpha: [5, height, width]; differentiable by everything."""
    dtype = torch.float64
    means, scales, quaternions, logits, sh = (value.to(dtype) for value in gaussians.tensors().values())
    viewmat, K = viewmat.to(dtype), K.to(dtype)
    R, t = viewmat[:3, :3], viewmat[:3, 3]
    camera = -R.T @ t
    y, x = torch.meshgrid(*(torch.arange(size).to(dtype) + 0.5 for size in (height, width)), indexing="ij")
    planes, through = torch.zeros(5, height, width, dtype=dtype), torch.ones(height, width, dtype=dtype)
    live = torch.ones(height, width, dtype=torch.bool)
    in_camera = means @ R.T + t
    for i in torch.argsort(in_camera[:, 2], stable=True).tolist():
        X, Y, Z = in_camera[i]
        if near > Z:
            continue
        margin = 0.15
        u = torch.clamp(X / Z, -(K[0, 2] / K[0, 0] + margin * width / K[0, 0]),
                        (width - K[0, 2]) / K[0, 0] + margin * width / K[0, 0])  # fmt: skip
        v = torch.clamp(Y / Z, -(K[1, 2] / K[1, 1] + margin * height / K[1, 1]),
                        (height - K[1, 2]) / K[1, 1] + margin * height / K[1, 1])  # fmt: skip
        J = torch.stack([K[0, 0] / Z, 0 * Z, -K[0, 0] * u / Z, 0 * Z, K[1, 1] / Z, -K[1, 1] * v / Z]).view(2, 3)
        axes = rotation(quaternions[i]) * torch.exp(scales[i])
        flat = J @ R @ (axes @ axes.T) @ R.T @ J.T
        blurred = flat + 0.3 * torch.eye(2, dtype=dtype)
        opacity = torch.sigmoid(logits[i])
        if opacity < 1 / 255:
            continue
        if antialias:
            opacity = opacity * torch.sqrt(torch.linalg.det(flat) / torch.linalg.det(blurred))
        d = torch.stack([x - (K[0, 0] * X / Z + K[0, 2]), y - (K[1, 1] * Y / Z + K[1, 2])], -1)
        q = torch.einsum("hwa,ab,hwb->hw", d, torch.linalg.inv(blurred), d)
        alpha = torch.clamp(opacity * torch.exp(-q / 2), max=0.999)
        direction = (means[i] - camera) / torch.linalg.vector_norm(means[i] - camera)
        color = color_along(sh[i], direction)
        after = through * (1 - alpha)
        seen = live & (alpha >= 1 / 255)
        ends = seen & (after <= 1e-4)
        live = live & ~ends
        adds = seen & ~ends
        weight = torch.where(adds, alpha * through, 0.0)
        planes = planes + weight * torch.cat([color, Z[None], torch.ones(1, dtype=dtype)])[:, None, None]
        through = torch.where(adds, after, through)
    return planes


def rotation(q):
    """R_ij from the product q v q*, column by column."""
    q = q / torch.linalg.vector_norm(q)
    conjugate = q * torch.tensor([1, -1, -1, -1], dtype=q.dtype)
    columns = [hamilton(hamilton(q, torch.eye(4, dtype=q.dtype)[k + 1]), conjugate)[1:] for k in range(3)]
    return torch.stack(columns, 1)


def hamilton(p, q):
    w = p[0] * q[0] - (p[1:] * q[1:]).sum()
    return torch.cat([w[None], p[0] * q[1:] + q[0] * p[1:] + torch.linalg.cross(p[1:], q[1:])])


def color_along(sh, d):
    """The polynomials of 3DGS, with their square roots written out."""
    x, y, z = d
    pi = torch.pi
    basis = [
        (1 / (4 * pi)) ** 0.5 * torch.ones_like(x),
        -((3 / (4 * pi)) ** 0.5) * y, (3 / (4 * pi)) ** 0.5 * z, -((3 / (4 * pi)) ** 0.5) * x,
        (15 / (4 * pi)) ** 0.5 * x * y, -((15 / (4 * pi)) ** 0.5) * y * z,
        (5 / (16 * pi)) ** 0.5 * (3 * z * z - 1),
        -((15 / (4 * pi)) ** 0.5) * x * z, (15 / (16 * pi)) ** 0.5 * (x * x - y * y),
        -((35 / (32 * pi)) ** 0.5) * y * (3 * x * x - y * y), (105 / (4 * pi)) ** 0.5 * x * y * z,
        -((21 / (32 * pi)) ** 0.5) * y * (5 * z * z - 1), (7 / (16 * pi)) ** 0.5 * z * (5 * z * z - 3),
        -((21 / (32 * pi)) ** 0.5) * x * (5 * z * z - 1), (105 / (16 * pi)) ** 0.5 * z * (x * x - y * y),
        -((35 / (32 * pi)) ** 0.5) * x * (x * x - 3 * y * y),
    ]  # fmt: skip
    return torch.clamp(0.5 + sum(b * c for b, c in zip(basis, sh, strict=False)), min=0)
