import pytest

from pocket_diffusers.eval.protocol import compare, protocol_hash


def record(value, metric="m", **settings):
    return {"metric": metric, "value": value, "protocol": settings, "protocol_hash": protocol_hash(settings)}


def test_hash_is_of_the_settings_not_of_their_order():
    assert protocol_hash({"a": 1, "b": 2}) == protocol_hash({"b": 2, "a": 1}) != protocol_hash({"a": 1, "b": 3})
    assert len(protocol_hash({})) == 64


def test_only_equal_protocols_are_compared():
    assert compare(record(3.0, n=1), record(1.0, n=1)) == 2.0
    with pytest.raises(ValueError, match=r"different protocols: eps \(None and 2\), n \(1 and 2\)"):
        compare(record(3.0, n=1), record(1.0, n=2, eps=2))
    with pytest.raises(ValueError, match="m and k are different metrics"):
        compare(record(3.0), record(1.0, "k"))
