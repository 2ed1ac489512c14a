"""Files that something happened to, for readers that must refuse them or read them whole."""

import numpy as np

BYTE_DAMAGES = 7


def damaged(whole: bytes, draw: np.random.Generator) -> bytes:
    """A file with some bytes changed, or a piece cut out, doubled, moved or replaced by a large number."""
    data = bytearray(whole)
    place = int(draw.integers(len(data)))
    end = min(len(data), place + int(draw.integers(1, 64)))
    match int(draw.integers(BYTE_DAMAGES)):
        case 0:
            return bytes(data[:place])
        case 1:
            del data[place:end]
        case 2:
            data[place:place] = data[place:end]
        case 3:
            data[place:end] = draw.bytes(end - place)
        case 4:
            for _ in range(int(draw.integers(1, 8))):
                data[int(draw.integers(len(data)))] ^= 1 << int(draw.integers(8))
        case 5:
            data[place : place + 4] = draw.choice([b"\xff" * 4, b"\0" * 4, b"\xff\xff\xff\x7f", b"\0\0\xc0\x7f"])
        case 6:
            head = int(draw.integers(min(64, len(data))))
            data[head] = int(draw.integers(256))
    return bytes(data)
