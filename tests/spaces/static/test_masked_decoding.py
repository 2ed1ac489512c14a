"""Parallel decoding in the browser: its noise, its schedule and its choices against Python's."""

import shutil

import numpy as np
import pytest
import torch

from pocket_diffusers.pipelines.sampling.masked_decoding import (
    draw_gumbel,
    keep_likeliest,
    least_certain,
    masked_counts,
)
from pocket_diffusers.pipelines.sampling.noise import own_generators
from pocket_diffusers.spaces.build_static import SHARED

SEEDS = (0, 1, 7, 123456789, 2**32 + 7, 2**53 - 1)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory, serve_folder) -> str:
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("masked_decoding.js", "random.js", "rounding.js"):
        shutil.copyfile(SHARED / name, folder / name)
    (folder / "index.html").write_text('<!doctype html><title>blank</title><link rel="icon" href="data:,">')
    return serve_folder(folder)


def test_the_browser_decodes_as_python_does(scripts, open_page):
    page = open_page(scripts)

    def run(code: str, given: object = None):
        head = 'async (given) => { const m = await import("/masked_decoding.js"); '
        return page.evaluate(f"{head} return {code}; }}", given)

    for seed in SEEDS:
        own = own_generators(1, [torch.Generator().manual_seed(seed)])
        expected = [draw_gumbel([tokens], 512, own).flatten().numpy() for tokens in (3, 1)]
        code = "((noise) => [Array.from(noise.draw(1536)), Array.from(noise.draw(512))])(new m.GumbelNoise(given))"
        for ours, theirs in zip(run(code, seed), expected, strict=True):
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)

    cases = [
        (step, steps, tokens) for steps in (1, 2, 3, 4, 10, 18) for step in range(steps) for tokens in range(1, 50)
    ]
    expected = [int(masked_counts(step, steps, torch.tensor([tokens]))) for step, steps, tokens in cases]
    assert run("given.map((one) => m.maskedCount(...one))", cases) == expected

    draw = torch.Generator().manual_seed(0)
    scores = torch.randint(6, (20, 30), generator=draw).float()  # many are equal
    for row, count in zip(scores, range(1, 21), strict=True):
        asked = least_certain(row[None], torch.tensor([count]), torch.zeros(1, 30, dtype=torch.bool))[0]
        found = run("m.leastCertain(given[0], given[1])", [row.tolist(), count])
        assert sorted(found) == asked.nonzero().flatten().tolist()

    logits, noise = (3 * torch.randn(200, 64, generator=draw) for _ in range(2))
    logits[:, 5] = logits[:, 9]
    expected = (keep_likeliest(logits, 0.1) + noise).argmax(-1).tolist()
    code = "given[0].map((logits, i) => m.drawCode(Float32Array.from(logits), Float32Array.from(given[1][i]), 7))"
    assert run(code, [logits.tolist(), noise.tolist()]) == expected and len(set(expected)) > 30
    chances = run("given.map((logits) => m.chanceOf(logits, 11))", (20 * logits).tolist())
    np.testing.assert_allclose(chances, (20 * logits).softmax(-1)[:, 11], rtol=1e-4, atol=1e-7)
