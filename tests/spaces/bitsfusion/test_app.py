"""The Space of BitsFusion as programs and people use it."""

import re
import shlex

import numpy as np
import pytest
import torch
from PIL import Image

from pocket_diffusers import checkpoint
from pocket_diffusers.pipelines.loading import load_pipeline

gradio = pytest.importorskip("gradio", reason="Spaces need the extra 'demo'")

WEIGHTS = {"full precision": "bitsfusion-nano-full", "few bits": "bitsfusion-nano"}


@pytest.fixture(scope="module")
def address():
    from pocket_diffusers.spaces.look import serve, space_app

    demo = space_app("bitsfusion").build()
    yield serve(demo, wait=False)
    demo.close()


@pytest.fixture(scope="module")
def client(address):
    from gradio_client import Client

    return Client(address, verbose=False, analytics_enabled=False)


def ask(client, prompt: str = "a red cube", **settings):
    return client.predict(prompt, api_name="/generate", **{"steps": 2, "seed": 7, "new_seed": False, **settings})


def test_both_pictures_are_those_of_the_pipelines_from_one_seed_with_the_bytes_of_their_files(client):
    gallery, told, files, seed = ask(client, steps=5, guidance=3, negative_prompt="blue")
    assert seed == 7 and [entry["caption"] for entry in gallery] == list(WEIGHTS)
    assert told.startswith("**2 pictures** in **") and "5 steps · guidance 3 · seed 7" in told
    for entry, path, (name, weights) in zip(gallery, files, WEIGHTS.items(), strict=True):
        expected = load_pipeline("bitsfusion", weights)(
            "a red cube", "blue", num_inference_steps=5, guidance_scale=3, generator=torch.Generator().manual_seed(7)
        ).images[0]
        for made in (entry["image"], path):
            assert np.array_equal(np.asarray(Image.open(made)), np.asarray(expected))
        kept = Image.open(path).text
        assert (kept["prompt"], kept["seed"], kept["unet"]) == ("a red cube", "7", name)
        size = sum(file.stat().st_size for file in (checkpoint(weights) / "unet").glob("*.safetensors"))
        assert re.search(rf"\| {name} \| {size:,} \| [\d.]+ \|", told)


@pytest.mark.parametrize(
    ("prompt", "settings", "sentence"),
    [
        ("  ", {}, "Prompt is empty: describe the picture in words."),
        ("a" * 501, {}, "Prompt has 501 characters: at most 500 are allowed."),
        ("a red cube", {"negative_prompt": "b" * 600}, "Negative prompt has 600 characters"),
        ("a red cube", {"steps": 7}, "7 is not in the list of choices: [1, 2, 5, 10, 25, 48, 49, 50]"),
    ],
)
def test_bad_input_gets_one_sentence(client, prompt, settings, sentence):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError) as error:
        ask(client, prompt, **settings)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("folder", "bits", "words"),
    [
        ("my-model", "4", ["my-model", "--bits", "4", "-o", "my-model-4bit"]),
        ("my models/sd 15/", "2", ["my models/sd 15/", "--bits", "2", "-o", "sd 15-2bit"]),
        ("sd; rm -r x", "1.99", ["sd; rm -r x", "--bits", "1.99", "--cache-steps", "50", "-o", "sd; rm -r x-1.99bit"]),
    ],
)
def test_weights_of_ones_own_are_refused_politely_with_the_command_that_packs_them(client, folder, bits, words):
    answer, command = client.predict(folder, bits=bits, api_name="/quantize")
    assert answer.startswith("Thank you, but this page takes no weights")
    assert shlex.split(command) == ["pocket", "quantize", *words]
    assert ("do not hold without training" in answer) == (float(bits) < 3)
    assert ("Stable Diffusion 1.5" in answer) == (bits == "1.99")


def test_the_command_is_one_that_pocket_quantize_takes(client, tmp_path, monkeypatch):
    from pocket_diffusers.cli import main

    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-model").symlink_to(checkpoint(WEIGHTS["full precision"]))
    _, command = client.predict("my-model", bits="3", api_name="/quantize")
    assert main(shlex.split(command)[1:]) == 0
    assert (tmp_path / "my-model-3bit" / "unet" / "config.json").is_file()


def test_a_folder_without_a_name_is_asked_for(client):
    from gradio_client.exceptions import AppError

    with pytest.raises(AppError, match="Folder is empty: say what the folder of your model is called"):
        client.predict(" ", api_name="/quantize")


def test_packed_weights_of_ones_own_are_drawn_alone():
    from gradio_client import Client

    from pocket_diffusers.spaces.look import serve, space_app

    demo = space_app("bitsfusion").build(str(checkpoint("bitsfusion-nano-full")))
    try:
        gallery, told, *_ = ask(Client(serve(demo, wait=False), verbose=False, analytics_enabled=False), steps=3)
    finally:
        demo.close()
    assert (
        [entry["caption"] for entry in gallery] == ["own weights"]
        and told.startswith("**1 picture** in **")
        and "3 steps" in told
    )


def test_a_person_compares_and_is_told_the_command(address, open_page):
    page = open_page(address)
    page.get_by_label("Prompt", exact=True).fill("a red cube")
    page.get_by_role("button", name="Draw", exact=True).click()
    page.get_by_text("2 pictures").wait_for()
    pictures = page.locator(".pocket-pictures .thumbnail-item img")
    assert pictures.count() == 2
    assert page.get_by_role("cell", name="full precision").is_visible()
    page.get_by_role("tab", name="Your own weights").click()
    page.get_by_label("Folder").fill("my-model")
    page.get_by_role("button", name="Pack it", exact=True).click()
    page.get_by_text("this page takes no weights").wait_for()
    page.get_by_text("pocket quantize my-model --bits 4 -o my-model-4bit").wait_for()
