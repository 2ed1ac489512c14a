from PIL import Image

from pocket_diffusers.eval.claims.ascan.drawing import GUIDANCE, STEPS, draw_classes


def test_every_class_is_drawn_in_every_round_with_the_seed_of_the_round():
    asked = []

    def pipeline(labels, guidance_scale, generator, num_inference_steps):
        asked.append((labels, [one.initial_seed() for one in generator], guidance_scale, num_inference_steps))
        return type("Output", (), {"images": [Image.new("RGB", (4, 4))] * len(labels)})

    rounds = list(draw_classes(pipeline, [("red", "cube"), ("blue", "torus")], 3))
    assert [len(pictures) for pictures in rounds] == [2, 2, 2]
    assert asked == [(["red cube", "blue torus"], [seed, seed], GUIDANCE, STEPS) for seed in range(3)]
