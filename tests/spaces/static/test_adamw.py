"""The optimiser in the browser, beside torch's."""

import shutil

import numpy as np
import torch

from pocket_diffusers.spaces.build_static import SHARED


def test_steps_are_torch_s(tmp_path, serve_folder, open_page):
    shutil.copyfile(SHARED / "adamw.js", tmp_path / "adamw.js")
    (tmp_path / "index.html").write_text('<!doctype html><title>blank</title><link rel="icon" href="data:,">')
    draw = torch.Generator().manual_seed(0)
    start, gradients = torch.randn(50, generator=draw), torch.randn(30, 50, generator=draw) ** 5
    gradients[:, :5] = 0
    code = """async ([start, gradients, options]) => {
        const { AdamW } = await import("/adamw.js");
        const optimizer = new AdamW(Float32Array.from(start), options);
        return gradients.map((gradient) => {
            optimizer.step(Float32Array.from(gradient));
            return Array.from(optimizer.values);
        });
    }"""
    page = open_page(serve_folder(tmp_path))
    for rate, betas, decay in ((0.06, (0.5, 0.9), 1e-6), (0.01, (0.9, 0.999), 0.5)):
        values = start.clone().requires_grad_(True)
        theirs = torch.optim.AdamW([values], rate, betas, weight_decay=decay)
        options = {"learning_rate": rate, "betas": betas, "weight_decay": decay}
        for ours, gradient in zip(
            page.evaluate(code, [start.tolist(), gradients.tolist(), options]), gradients, strict=True
        ):
            values.grad = gradient
            theirs.step()
            np.testing.assert_allclose(ours, values.detach(), rtol=1e-5, atol=1e-6)
