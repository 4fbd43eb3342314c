"""LZX as cabinets have it ([MS-PATCH] 2.1 to 2.7, [MS-CAB] 2.2.5): unpacking alone.

Blocks of literals and matches, in Huffman codes whose lengths are told as differences to those of
the block before. Bits come in words of 16, the highest first; output in frames of 32 KiB, after
each of which a new word begins.
"""

from __future__ import annotations

from tpmhsm.errors import ParseError

FRAME = 1 << 15
MAX_CONTENT = 1 << 23
"""Octets of a folder, unpacked: this takes some microseconds for each."""

_BLOCKS_FIRST, _BLOCKS_A_FRAME = 16, 2  # real ones span frames; codes cost milliseconds
_SLOTS = {15: 30, 16: 32, 17: 34, 18: 36, 19: 38, 20: 42, 21: 50}
_LENGTHS = 249
_MAX_BITS = 16
_VERBATIM, _ALIGNED, _PLAIN = 1, 2, 3
_LAST_TRANSLATED = 32_768  # frames

_EXTRA = [max(0, min(17, slot // 2 - 1)) for slot in range(51)]
_BASE = [0]
for _slot in range(50):
    _BASE.append(_BASE[-1] + (1 << _EXTRA[_slot]))


class _Bits:
    """The packed bytes of a folder as bits. Beyond their end are zeros, until `align` looks."""

    def __init__(self) -> None:
        self._data = b""
        self._at = 0
        self._held = 0
        self._count = 0

    def feed(self, data: bytes) -> None:
        """More bytes, after those that are left."""
        self._data = self._data[self._at :] + data
        self._at = 0

    def peek(self, count: int) -> int:
        """The next bits, up to 32, which stay."""
        while self._count < count:
            word = self._data[self._at : self._at + 2]
            self._held = self._held << 16 | int.from_bytes(word, "little")
            self._count += 16
            self._at += 2
        return self._held >> (self._count - count)

    def skip(self, count: int) -> None:
        """Take bits that were peeked at."""
        self._count -= count
        self._held &= (1 << self._count) - 1

    def take(self, count: int) -> int:
        """The next bits."""
        found = self.peek(count)
        self.skip(count)
        return found

    def align(self, *, whole: bool = False) -> None:
        """Drop the rest of a word; a `whole` one where none was begun. ParseError past the end."""
        if whole and not self._count % 16:
            self.take(16)
        self._at -= self._count // 16 * 2
        self._held = self._count = 0
        if self._at > len(self._data):
            raise ParseError("the cabinet is damaged: a block ends too early")

    def octets(self, count: int) -> bytes:
        """Bytes, where no word is begun."""
        found = self._data[self._at : self._at + count]
        if len(found) != count:
            raise ParseError("the cabinet is damaged: a block ends too early")
        self._at += count
        return found


class _Code:
    """A canonical Huffman code: for each value of the next bits the symbol and its length."""

    def __init__(self, lengths: list[int], what: str) -> None:
        self._what = what
        self._bits = max(lengths)
        self._table: list[int] = []
        by_length: list[list[int]] = [[] for _ in range(self._bits + 1)]
        for symbol, length in enumerate(lengths):
            by_length[length].append(symbol)
        for length in range(1, self._bits + 1):
            for symbol in by_length[length]:
                self._table += [symbol << 5 | length] * (1 << (self._bits - length))
        if len(self._table) > 1 << self._bits:
            raise ParseError(f"the cabinet is damaged: its code of {what} is too full")
        self._table += [0] * ((1 << self._bits) - len(self._table))

    def read(self, bits: _Bits) -> int:
        """The next symbol. ParseError for a code that there is not."""
        found = self._table[bits.peek(self._bits)]
        if not found:
            raise ParseError(f"the cabinet is damaged: a code of {self._what} that there is not")
        bits.skip(found & 31)
        return found >> 5


class Lzx:
    """Unpacks the blocks of one folder, one after the other."""

    def __init__(self, window: int) -> None:
        if window not in _SLOTS:
            raise ParseError(f"the cabinet has an LZX window of {window} bits; 15 to 21 are known")
        self._size = 1 << window
        self._bits = _Bits()
        self._out = bytearray()
        self._main = [0] * (256 + 8 * _SLOTS[window])
        self._length = [0] * _LENGTHS
        self._codes: tuple[_Code, _Code, _Code | None] | None = None
        self._recent = [1, 1, 1]
        self._kind = self._left = 0
        self._padded = False
        self._translated = -1
        self._frames = self._blocks = self._total = 0

    def block(self, packed: bytes, size: int) -> bytes:
        """One frame. ParseError when it is damaged, or unpacks to very much."""
        self._bits.feed(packed)
        self._total += size
        if self._total > MAX_CONTENT:
            raise ParseError(f"a cabinet with more than {MAX_CONTENT:,} bytes of LZX in it")
        if self._translated < 0:
            told = self._bits.take(1)
            self._translated = self._bits.take(16) << 16 | self._bits.take(16) if told else 0
        begin = len(self._out)
        while len(self._out) - begin < size:
            if not self._left:
                self._begin_block()
            wanted = min(self._left, size - (len(self._out) - begin))
            made = len(self._out)
            if self._kind == _PLAIN:
                self._plain(wanted)
            else:
                self._decode(wanted)
            self._left -= len(self._out) - made
        if self._left < 0 or len(self._out) - begin != size:
            raise ParseError("the cabinet is damaged: a match goes beyond its frame")
        if self._kind != _PLAIN or not self._left:
            self._bits.align()
        found = self._untranslated(bytes(self._out[begin:]))
        self._frames += 1
        del self._out[: max(0, len(self._out) - self._size)]
        return found

    def _begin_block(self) -> None:
        bits = self._bits
        if self._padded:  # an odd number of plain bytes: the next word begins after one more
            bits.octets(1)
            self._padded = False
        self._kind = bits.take(3)
        self._left = bits.take(24)
        self._blocks += 1
        if self._blocks > _BLOCKS_FIRST + _BLOCKS_A_FRAME * self._frames:
            raise ParseError("the cabinet has more blocks than any program writes")
        if self._kind not in (_VERBATIM, _ALIGNED, _PLAIN) or not self._left:
            raise ParseError("the cabinet is damaged: a block of an unknown kind")
        if self._kind == _PLAIN:
            bits.align(whole=True)
            recent = bits.octets(12)
            self._recent = [int.from_bytes(recent[i : i + 4], "little") for i in (0, 4, 8)]
            self._padded = bool(self._left & 1)
            return
        aligned = None
        if self._kind == _ALIGNED:
            aligned = _Code([bits.take(3) for _ in range(8)], "aligned offsets")
        self._read_lengths(self._main, 0, 256)
        self._read_lengths(self._main, 256, len(self._main))
        self._read_lengths(self._length, 0, _LENGTHS)
        self._codes = (_Code(self._main, "literals"), _Code(self._length, "lengths"), aligned)

    def _read_lengths(self, lengths: list[int], at: int, end: int) -> None:
        """Differences to the lengths of before, themselves in a Huffman code (2.5)."""
        bits = self._bits
        code = _Code([bits.take(4) for _ in range(20)], "lengths of codes")
        while at < end:
            symbol = code.read(bits)
            if symbol <= 16:
                lengths[at] = (lengths[at] - symbol) % 17
                at += 1
                continue
            if symbol == 17:
                run, value = 4 + bits.take(4), 0
            elif symbol == 18:
                run, value = 20 + bits.take(5), 0
            else:
                run = 4 + bits.take(1)
                value = (lengths[at] - code.read(bits)) % 17
            if at + run > end:
                raise ParseError("the cabinet is damaged: a run of lengths that is too long")
            lengths[at : at + run] = [value] * run
            at += run

    def _plain(self, wanted: int) -> None:
        self._out += self._bits.octets(wanted)

    def _decode(self, wanted: int) -> None:
        """Literals and matches until so many bytes are out."""
        if self._codes is None:
            raise ParseError("the cabinet is damaged: a block without its codes")
        main, lengths, aligned = self._codes
        bits, out = self._bits, self._out
        end = len(out) + wanted
        while len(out) < end:
            symbol = main.read(bits)
            if symbol < 256:
                out.append(symbol)
                continue
            length = (symbol & 7) + 2
            if length == 9:
                length += lengths.read(bits)
            self._copy(self._offset((symbol - 256) >> 3, aligned), length, end)

    def _offset(self, slot: int, aligned: _Code | None) -> int:
        """How far back a match begins; the last three are remembered (2.7)."""
        recent = self._recent
        if slot < 3:
            recent[0], recent[slot] = recent[slot], recent[0]
            return recent[0]
        bits, extra = self._bits, _EXTRA[slot]
        if aligned is not None and extra >= 3:
            more = bits.take(extra - 3) << 3
            more += aligned.read(bits)
        else:
            more = bits.take(extra)
        self._recent = [_BASE[slot] + more - 2, recent[0], recent[1]]
        return self._recent[0]

    def _copy(self, offset: int, length: int, end: int) -> None:
        out = self._out
        begin = len(out) - offset
        if not 0 < offset <= self._size or begin < 0 or len(out) + length > end:
            raise ParseError("the cabinet is damaged: a match from nowhere")
        piece = out[begin : begin + length]
        out += (piece * (length // offset + 1))[:length]

    def _untranslated(self, frame: bytes) -> bytes:
        """Targets of x86 calls were made absolute, which packs better (2.3)."""
        if not self._translated or self._frames >= _LAST_TRANSLATED or len(frame) <= 10:
            return frame
        found, at = bytearray(frame), 0
        start = self._frames * FRAME
        while (at := found.find(b"\xe8", at, len(found) - 10)) >= 0:
            here = start + at
            target = int.from_bytes(found[at + 1 : at + 5], "little", signed=True)
            if -here <= target < self._translated:
                target += -here if target >= 0 else self._translated
                found[at + 1 : at + 5] = (target & 0xFFFFFFFF).to_bytes(4, "little")
            at += 5
        return bytes(found)
