"""The Space of SnapGen as programs and people use it."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers.pipelines.loading import load_pipeline

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")


@pytest.fixture(scope="module")
def address():
    from pocket_diffusers.spaces.look import serve, space_app

    demo = space_app("snapgen").build()
    yield serve(demo, wait=False)
    demo.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def ask(client, prompt: str = "a red cube", **settings):
    quick = {"steps": 2, "num_images": 1, "seed": 7, "new_seed": False}
    return client.predict(prompt, api_name="/generate", **{**quick, **settings})


def test_pictures_are_those_of_the_pipeline(client):
    gallery, timing, files, seed = ask(client, steps=3, num_images=2, guidance=5, negative_prompt="blue")
    pipeline = load_pipeline("snapgen")
    generators = [torch.Generator().manual_seed(number) for number in (7, 8)]
    expected = pipeline(
        "a red cube", "blue", num_inference_steps=3, guidance_scale=5, num_images_per_prompt=2, generator=generators
    ).images
    shown = [Image.open(entry["image"]) for entry in gallery]
    for made in (shown, [Image.open(path) for path in files]):
        assert [np.asarray(image).tolist() for image in made] == [np.asarray(image).tolist() for image in expected]
    assert seed == 7 and [entry["caption"] for entry in gallery] == ["seed 7", "seed 8"]
    assert timing.startswith("**2 pictures** in **") and "3 steps · guidance 5" in timing
    assert "a-red-cube" in files[0]
    kept = Image.open(files[1]).text
    assert kept["prompt"] == "a red cube" and kept["seed"] == "8" and kept["negative_prompt"] == "blue"


@pytest.mark.parametrize(
    ("prompt", "settings", "sentence"),
    [
        ("  ", {}, "Prompt is empty: describe the picture in words."),
        ("a" * 501, {}, "Prompt has 501 characters: at most 500 are allowed."),
        ("a red cube", {"negative_prompt": "b" * 600}, "Negative prompt has 600 characters"),
    ],
)
def test_bad_input_gets_one_sentence(client, prompt, settings, sentence):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        ask(client, prompt, **settings)
    assert sentence in str(error.value)


def test_twenty_requests_at_once_all_finish(address):
    from gradio_client import Client

    alone = ask(Client(address, verbose=False, analytics_enabled=False), seed=19)
    clients = [Client(address, verbose=False, analytics_enabled=False) for _ in range(4)]
    with ThreadPoolExecutor(20) as pool:
        results = list(pool.map(lambda seed: ask(clients[seed % 4], seed=seed), range(20)))
    assert [seed for *_, seed in results] == list(range(20))
    assert len({Image.open(files[0]).tobytes() for _, _, files, _ in results}) == 20
    assert Image.open(results[19][2][0]).tobytes() == Image.open(alone[2][0]).tobytes()


def start(page, prompt: str) -> None:
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.get_by_role("button", name="Draw", exact=True).click()


def test_a_person_draws_and_saves(address, open_page, tmp_path):
    page = open_page(address)
    start(page, "a red cube")
    page.get_by_text("2 pictures").wait_for()
    pictures = page.locator(".pocket-pictures .thumbnail-item img")
    assert pictures.count() == 2
    assert pictures.first.evaluate("image => image.complete && image.naturalWidth") == 64
    with page.expect_download() as download:
        page.locator(".pocket-files a").first.click()
    saved = tmp_path / "saved.png"
    download.value.save_as(saved)
    assert Image.open(saved).size == (64, 64)
    assert len(set(Image.open(saved).convert("L").tobytes())) > 20, "the picture is blank"


def test_an_example_draws_at_once_and_an_empty_prompt_is_explained(address, open_page):
    page = open_page(address)
    start(page, " ")
    page.get_by_text("Prompt is empty: describe the picture in words.").first.wait_for()
    page.get_by_role("button", name="two yellow spheres").click()
    page.get_by_text("2 pictures").wait_for()
    assert page.get_by_label("Prompt", exact=True).input_value() == "two yellow spheres"
