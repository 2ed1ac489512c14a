from PIL import Image

from pocket_diffusers.eval.drawing import draw_rounds


def test_every_prompt_is_drawn_in_every_round_with_the_seed_of_the_round():
    asked = []

    def pipeline(prompts, generator, output_type):
        asked.append((prompts, [one.initial_seed() for one in generator], output_type))
        return type("Output", (), {"images": [Image.new("RGB", (4, 4))] * len(prompts)})

    rounds = draw_rounds(pipeline, ("red cube", "blue torus"), 3)
    assert [len(pictures) for pictures in rounds] == [2, 2, 2]
    assert asked == [(["red cube", "blue torus"], [seed, seed], "pil") for seed in range(3)]
