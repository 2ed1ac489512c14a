from pocket_diffusers.eval.protocol import protocol_hash


def test_hash_is_of_the_settings_not_of_their_order():
    assert protocol_hash({"a": 1, "b": 2}) == protocol_hash({"b": 2, "a": 1}) != protocol_hash({"a": 1, "b": 3})
    assert len(protocol_hash({})) == 64
