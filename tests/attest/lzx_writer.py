"""LZX made by hand ([MS-PATCH]): all kinds of blocks, for cabinets to be read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
EXTRA = [0, 0, 0, 0] + [i // 2 - 1 for i in range(4, 36)] + [17] * 15
BASE = [sum(1 << e for e in EXTRA[:i]) for i in range(51)]
VERBATIM, ALIGNED, PLAIN = 1, 2, 3
FRAME = 1 << 15


class Bits:
    def __init__(self) -> None:
        self.out = bytearray()
        self.held, self.count = 0, 0

    def put(self, value: int, count: int) -> None:
        for shift in range(count - 1, -1, -1):
            self.held = self.held << 1 | (value >> shift & 1)
            self.count += 1
            if self.count == 16:
                self.out += bytes((self.held & 0xFF, self.held >> 8))
                self.held = self.count = 0

    def align(self, *, whole: bool = False) -> None:
        if self.count or whole:
            self.put(0, 16 - self.count)


def lengths_of(used: set[int], total: int) -> list[int]:
    """A complete code of nearly equal lengths."""
    used = set(used)
    while len(used) < 2:
        used.add(next(i for i in range(total) if i not in used))
    bits = (len(used) - 1).bit_length()
    short = (1 << bits) - len(used)
    found = [0] * total
    for number, symbol in enumerate(sorted(used)):
        found[symbol] = bits - (number < short)
    return found


def codes_of(lengths: Sequence[int]) -> dict[int, tuple[int, int]]:
    found, code = {}, 0
    for length in range(1, 17):
        for symbol, own in enumerate(lengths):
            if own == length:
                found[symbol] = (code, length)
                code += 1
        code <<= 1
    return found


class Writer:
    def __init__(self, window: int) -> None:
        self.window = window
        self.main = [0] * (256 + 8 * SLOTS[window])
        self.length = [0] * 249
        self.recent = [1, 1, 1]

    def tokens(self, data: bytes, begin: int, end: int) -> Iterator[tuple[int, ...]]:
        """(byte,) or (offset, length); none goes over the end of a frame."""
        at = begin
        while at < end:
            limit = min(end, at // FRAME * FRAME + FRAME) - at
            best = (0, 0)
            for length in (257, 100, 20, 9, 8, 5, 3):
                if length > limit:
                    continue
                low = max(0, at - (1 << self.window) + 3)
                where = data.rfind(data[at : at + length], low, at + length - 1)
                if where >= 0:
                    best = (at - where, length)
                    break
            if best[1]:
                yield best
                at += best[1]
            else:
                yield (data[at],)
                at += 1

    def symbol(self, offset: int, length: int) -> tuple[int, int, int]:
        """(slot, extra bits' value, how many)"""
        recent = self.recent
        if offset in recent:
            slot = recent.index(offset)
            recent[0], recent[slot] = recent[slot], recent[0]
            return slot, 0, 0
        self.recent = [offset, recent[0], recent[1]]
        slot = max(i for i in range(3, 50) if BASE[i] <= offset + 2)
        return slot, offset + 2 - BASE[slot], EXTRA[slot]

    def put_lengths(
        self, bits: Bits, old: list[int], new: Sequence[int], at: int, end: int
    ) -> None:
        pre = [4] * 12 + [5] * 8
        for one in pre:
            bits.put(one, 4)
        codes = codes_of(pre)
        while at < end:
            run = 1
            while at + run < end and new[at + run] == new[at]:
                run += 1
            if new[at] == 0 and run >= 20:
                run = min(run, 51)
                bits.put(*codes[18])
                bits.put(run - 20, 5)
            elif new[at] == 0 and run >= 4:
                bits.put(*codes[17])
                bits.put(run - 4, 4)
            elif run >= 4:
                run = min(run, 5)
                bits.put(*codes[19])
                bits.put(run - 4, 1)
                bits.put(*codes[(old[at] - new[at]) % 17])
            else:
                run = 1
                bits.put(*codes[(old[at] - new[at]) % 17])
            old[at : at + run] = new[at : at + run]
            at += run


def pack(
    data: bytes, window: int, plan: Sequence[tuple[int, int]], translated: int = 0
) -> list[tuple[bytes, int]]:
    """Blocks of a cabinet; `plan` are kinds and sizes, taken again and again."""
    plain = data
    if translated:
        data = b"".join(
            translate(data[i : i + FRAME], i, translated) for i in range(0, len(data), FRAME)
        )
    bits, writer = Bits(), Writer(window)
    bits.put(bool(translated), 1)
    if translated:
        bits.put(translated >> 16, 16)
        bits.put(translated & 0xFFFF, 16)
    frames: list[tuple[bytes, int]] = []
    at = number = 0

    def flush(position: int) -> None:
        bits.align()
        frames.append((bytes(bits.out), position - len(frames) * FRAME))
        bits.out.clear()

    while at < len(data):
        kind, size = plan[number % len(plan)]
        number += 1
        end = min(len(data), at + size)
        if kind == PLAIN and (end - at) % 2 and end % FRAME == 0:
            end -= 1
        bits.put(kind, 3)
        bits.put(end - at, 24)
        if kind == PLAIN:
            bits.align(whole=True)
            bits.out += b"".join(one.to_bytes(4, "little") for one in writer.recent)
            begun = at
            while at < end:
                stop = min(end, at // FRAME * FRAME + FRAME)
                bits.out += data[at:stop]
                at = stop
                if at % FRAME == 0:
                    flush(at)
            if (at - begun) % 2:
                bits.out += b"\0"
            continue
        found = [(one, writer.symbol(*one) if len(one) == 2 else ()) for one in
                 writer.tokens(data, at, end)]  # fmt: skip
        main, lengths = set[int](), set[int]()
        for one, extra in found:
            if len(one) == 1:
                main.add(one[0])
            else:
                main.add(256 + extra[0] * 8 + min(one[1] - 2, 7))
                if one[1] - 2 >= 7:
                    lengths.add(one[1] - 9)
        if kind == ALIGNED:
            aligned_lengths = [3] * 8
            for each in aligned_lengths:
                bits.put(each, 3)
            aligned = codes_of(aligned_lengths)
        new_main, new_length = lengths_of(main, len(writer.main)), lengths_of(lengths, 249)
        writer.put_lengths(bits, writer.main, new_main, 0, 256)
        writer.put_lengths(bits, writer.main, new_main, 256, len(new_main))
        writer.put_lengths(bits, writer.length, new_length, 0, 249)
        main_codes, length_codes = codes_of(new_main), codes_of(new_length)
        for one, extra in found:
            if len(one) == 1:
                bits.put(*main_codes[one[0]])
                at += 1
            else:
                slot, value, count = extra
                bits.put(*main_codes[256 + slot * 8 + min(one[1] - 2, 7)])
                if one[1] - 2 >= 7:
                    bits.put(*length_codes[one[1] - 9])
                if kind == ALIGNED and count >= 3:
                    bits.put(value >> 3, count - 3)
                    bits.put(*aligned[value & 7])
                else:
                    bits.put(value, count)
                at += one[1]
            if at % FRAME == 0:
                flush(at)
    if len(data) % FRAME:
        flush(len(data))
    assert len(data) == len(plain)
    return frames


def translate(frame: bytes, start: int, size: int) -> bytes:
    """x86 calls made absolute."""
    found, at = bytearray(frame), 0
    while len(frame) > 10 and (at := found.find(b"\xe8", at, len(found) - 10)) >= 0:
        here = start + at
        target = int.from_bytes(found[at + 1 : at + 5], "little", signed=True)
        if -here <= target < size - here:
            target += here
        elif size - here <= target < size:
            target -= size
        else:
            at += 5
            continue
        found[at + 1 : at + 5] = (target & 0xFFFFFFFF).to_bytes(4, "little")
        at += 5
    return bytes(found)
