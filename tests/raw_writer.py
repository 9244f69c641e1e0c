"""A small encoder of Prophesee RAW files, written from the description of EVT 2.0, 2.1 and 3.0."""

import struct

HEADERS = {
    "EVT2": b"% evt 2.0\n% geometry 32x24\n% end\n",
    "EVT21": b"% evt 2.1\n% format EVT21;height=24;width=32;endianness=little\n% geometry 32x24\n% end\n",
    "EVT3": b"% evt 3.0\n% format EVT3;height=24;width=32\n% end\n",
}


def evt2_words(*words):
    """Bytes of ('high', bits) and ('cd', low time, x, y, p) words."""
    packed = []
    for kind, *values in words:
        if kind == "high":
            packed.append(0x8 << 28 | values[0])
        elif kind == "cd":
            low, x, y, p = values
            packed.append(p << 28 | low << 22 | x << 11 | y)
        else:
            packed.append(values[0])
    return struct.pack(f"<{len(packed)}I", *packed)


def evt21_words(*words, legacy=False):
    """Bytes of ('high', bits), ('cd', low time, x, y, p, pixels), ('other', bits) words; legacy: upper half first."""
    packed = []
    for kind, *values in words:
        upper, pixels = values[0], 0
        if kind == "high":
            upper |= 0x8 << 28
        elif kind == "cd":
            low, x, y, p, pixels = values
            upper = p << 28 | low << 22 | x << 11 | y
        packed += [upper, pixels] if legacy else [pixels, upper]
    return struct.pack(f"<{len(packed)}I", *packed)


_EVT3_KINDS = {
    "y": 0x0,
    "x": 0x2,
    "base": 0x3,
    "vector12": 0x4,
    "vector8": 0x5,
    "low": 0x6,
    "high": 0x8,
    "trigger": 0xA,
}


def evt3_words(*words):
    """Bytes of (kind, bits) words; the polarity of 'x' and 'base' comes after their column."""
    packed = []
    for kind, *values in words:
        bits = values[0] | (values[1] << 11 if len(values) > 1 else 0)
        packed.append(_EVT3_KINDS[kind] << 12 | bits)
    return struct.pack(f"<{len(packed)}H", *packed)


def encode_evt2(events):
    """Bytes of (t, x, y, p) events sorted by time; a time word every 64 us, as cameras write them."""
    words, high = [], None
    for t, x, y, p in events:
        while high is None or high < t >> 6:
            high = t >> 6 if high is None else high + 1
            words.append(("high", high & 0xFFFFFFF))
        words.append(("cd", t & 0x3F, x, y, p))
    return evt2_words(*words)


def encode_evt21(events, legacy=False):
    """Bytes of (t, x, y, p) events sorted by time; neighbouring pixels of one moment share a word."""
    words, high = [], None
    position = 0
    while position < len(events):
        t, x, y, p = events[position]
        while high is None or high < t >> 6:
            high = t >> 6 if high is None else high + 1
            words.append(("high", high & 0xFFFFFFF))
        pixels, next_offset = 0, 0
        for following in events[position:]:
            offset = following[1] - x
            if following[0] != t or following[2:] != (y, p) or not next_offset <= offset < 32:
                break
            pixels |= 1 << offset
            next_offset = offset + 1
            position += 1
        words.append(("cd", t & 0x3F, x, y, p, pixels))
    return evt21_words(*words, legacy=legacy)


def encode_evt3(events, vectors=True):
    """Bytes of (t, x, y, p) events sorted by time; neighbouring pixels of one moment become vectors."""
    words, time, row = [], None, None
    position = 0
    while position < len(events):
        t, x, y, p = events[position]
        while time is None or time >> 12 < t >> 12:
            time = t >> 12 << 12 if time is None else ((time >> 12) + 1) << 12
            words.append(("high", time >> 12 & 0xFFF))
        if t != time:
            time = t
            words.append(("low", t & 0xFFF))
        if y != row:
            row = y
            words.append(("y", y))
        bits = 0
        length = 0
        for following in events[position : position + 12]:
            offset = following[1] - x
            if following[0] != t or following[2:] != (y, p) or not length <= offset < 12:
                break
            bits |= 1 << offset
            length = offset + 1
        count = bits.bit_count()
        if vectors and count > 1:
            words += [("base", x, p), ("vector8", bits) if length <= 8 else ("vector12", bits)]
            position += count
        else:
            words.append(("x", x, p))
            position += 1
    return evt3_words(*words)
