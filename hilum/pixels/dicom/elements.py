"""Where the data elements of a DICOM file lie: a walk without recursion that reads lengths, skips values and has limits.

Only the elements asked for are kept. The rest, names and free text among it, is never looked at, so nothing of it can end
in a message, and a header built to exhaust memory (nested sequences, millions of elements) costs neither (DICOM PS3.5, 7 and A.4).
"""

import struct
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field

from pydicom.charset import python_encoding

from hilum.pixels.codes import refused

# Real headers: up to 8 levels (a sequence and its item are two), hundreds of elements.
MAX_DEPTH, MAX_ELEMENTS = 32, 100_000
MAX_VALUE = 1 << 20  # bytes of one value that is kept; the largest is a LUT of 65,536 entries of 16 bits

PIXEL_DATA = 0x7FE00010
IMPLICIT_LITTLE, EXPLICIT_BIG, DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
_TRANSFER_SYNTAX, _CHARACTER_SET = 0x00020010, 0x00080005
_UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_OTHER_PIXELS = (0x7FE00008, 0x7FE00009)  # float and double: no chest X-ray
_LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
_SHORT = frozenset(
    (b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US")
)  # fmt: skip
_INTEGERS = {b"US": "H", b"SS": "h", b"UL": "I", b"SL": "i"}


class CutShort(Exception):
    """The bytes end in the middle of the header."""


@dataclass(frozen=True)
class Element:
    """One data element: its VR (empty where implicit) and the place of its value; `length` is None where undefined."""

    tag: int
    vr: bytes
    start: int
    length: int | None


@dataclass
class Elements:
    """The kept elements of one data set, by tag, and their values as plain types.

    Values that make no sense are None: a caller decides whether it can do without.
    """

    data: bytes
    big: bool
    implicit: bool
    syntax: str
    found: dict[int, Element] = field(default_factory=dict)
    codec: str = "latin_1"

    def __contains__(self, tag: int) -> bool:
        return tag in self.found

    def raw(self, tag: int) -> bytes | None:
        """The value as stored."""
        element = self.found.get(tag)
        if element is None or not element.length or element.length > MAX_VALUE:
            return None
        return self.data[element.start : element.start + element.length]

    def texts(self, tag: int) -> list[str]:
        """The parts of a text between backslashes, without padding; no parts where the element is absent or empty."""
        value = self.raw(tag)
        return [] if value is None else [part.strip(" \0") for part in value.decode(self.codec, "replace").split("\\")]

    def text(self, tag: int) -> str | None:
        """The first part of a text, None where absent or empty."""
        return next(iter(self.texts(tag)), None) or None

    def numbers(self, tag: int) -> list[float | None]:
        """Decimal or integer strings (DS, IS); None for a part that is no finite number."""
        return [_finite(part) for part in self.texts(tag)]

    def number(self, tag: int) -> float | None:
        """The first decimal or integer string."""
        return next(iter(self.numbers(tag)), None)

    def integers(self, tag: int, *, signed: bool = False) -> list[int]:
        """Binary integers. signed: how 16 bits are read where the VR leaves it open (US or SS)."""
        value = self.raw(tag)
        if value is None:
            return []
        kind = _INTEGERS.get(self.found[tag].vr, "h" if signed else "H")
        size = struct.calcsize("<" + kind)
        return list(struct.unpack_from((">" if self.big else "<") + f"{len(value) // size}{kind}", value))

    def integer(self, tag: int) -> int | None:
        """The first binary integer."""
        return next(iter(self.integers(tag)), None)

    def first_item(self, tag: int, wanted: Collection[int]) -> "Elements | None":
        """The wanted elements of the first item of a sequence, None where there is none."""
        sequence = self.found.get(tag)
        if sequence is None:
            return None
        end = len(self.data) if sequence.length is None else min(len(self.data), sequence.start + sequence.length)
        # A sequence of unknown VR is written as Implicit VR Little Endian, whatever the rest is (PS3.5, 6.2.2, note 2).
        unknown = sequence.vr == b"UN"
        inner = Elements(self.data, self.big and not unknown, self.implicit or unknown, self.syntax, codec=self.codec)
        try:
            item, length, start = _item(self.data, sequence.start, inner.big)
            if item != _ITEM:
                return None
            end = end if length == _UNDEFINED else min(end, start + length)
            _walk(inner, start, end, wanted)
        except CutShort:
            return None
        return inner

    def fragments(self) -> Iterator[bytes]:
        """The fragments of encapsulated pixel data, without the offset table; stops where they are cut off."""
        place = self.found[PIXEL_DATA].start
        first = True
        while place + 8 <= len(self.data):
            tag, length, place = _item(self.data, place, big=False)
            if tag != _ITEM or length == _UNDEFINED:
                return
            if not first:
                yield self.data[place : place + length]
            first = False
            place += length


def read_elements(data: bytes, wanted: Collection[int]) -> Elements:
    """The wanted top-level elements of a DICOM file, pixel data always among them where the file holds any.

    data: the file, or its beginning. The walk ends at the pixel data.
    Raises CutShort where the bytes end before; UnreadableImage (no-meta-header, unsupported-transfer-syntax, broken-header,
    header-too-complex).
    """
    if data[128:132] != b"DICM":
        raise refused("no-meta-header")
    meta = Elements(data, big=False, implicit=False, syntax="")
    start = _walk(meta, 132, len(data), {_TRANSFER_SYNTAX}, group=2)
    syntax = meta.text(_TRANSFER_SYNTAX)
    if syntax is None:
        raise refused("no-meta-header", "it names no transfer syntax")
    if syntax == DEFLATED:
        raise refused("unsupported-transfer-syntax", "Deflated Explicit VR Little Endian")
    vr = data[start + 4 : start + 6]  # some writers name an explicit syntax and leave the VR out
    implicit = syntax == IMPLICIT_LITTLE or not (len(vr) < 2 or vr in _SHORT or vr in _LONG)
    elements = Elements(data, big=syntax == EXPLICIT_BIG, implicit=implicit, syntax=syntax)
    _walk(elements, start, len(data), {*wanted, _CHARACTER_SET})
    names = [name for name in elements.texts(_CHARACTER_SET) if name]
    elements.codec = python_encoding.get(names[-1], "latin_1") if names else "latin_1"
    return elements


def _finite(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < 1e12 else None  # neither infinity nor NaN


def _item(data: bytes, place: int, big: bool) -> tuple[int, int, int]:
    """(tag, length, start of the value) of an item or delimiter."""
    if place + 8 > len(data):
        raise CutShort
    group, element, length = struct.unpack_from(">HHI" if big else "<HHI", data, place)
    return group << 16 | element, length, place + 8


def _walk(elements: Elements, place: int, end: int, wanted: Collection[int], group: int | None = None) -> int:
    """Note the wanted elements between two places; the place after the last. With `group`, up to the first of another."""
    data = elements.data
    level = (False, elements.big, elements.implicit)  # is a list of items, byte order, VR
    outer: list[tuple[bool, bool, bool]] = []  # the open levels around it: what other readers recurse for
    for _ in range(MAX_ELEMENTS):
        if place == end and not outer:
            return place
        if place >= end:
            raise CutShort
        items, big, implicit = level
        if group is not None and data[place : place + 2] != group.to_bytes(2, "little"):
            return place  # what follows is written in another way
        tag, vr, length, start = _head(data, place, big, implicit or items)
        if tag in (_ITEM_END, _SEQUENCE_END):
            if not outer:
                return start  # the end of the item that the walk began in
            level, length = outer.pop(), 0
        elif not outer and (tag == PIXEL_DATA or tag in _OTHER_PIXELS or tag in wanted):
            elements.found.setdefault(tag, Element(tag, vr, start, None if length == _UNDEFINED else length))
            if tag not in wanted:
                return start
        if length == _UNDEFINED:
            if len(outer) == MAX_DEPTH:
                raise refused("header-too-complex")
            outer.append(level)
            level = (not items, False, True) if vr == b"UN" else (not items, big, implicit)
            length = 0
        place = start + length
    raise refused("header-too-complex")


def _head(data: bytes, place: int, big: bool, implicit: bool) -> tuple[int, bytes, int, int]:
    """(tag, VR, length, start of the value) of the element at a place."""
    tag, length, start = _item(data, place, big)
    if implicit or tag >> 16 == 0xFFFE:  # items have no VR
        return tag, b"", length, start
    vr = data[place + 4 : place + 6]
    if vr in _SHORT:
        return tag, vr, struct.unpack_from(">H" if big else "<H", data, place + 6)[0], start
    if vr not in _LONG:
        raise refused("broken-header", "an element of unknown type")
    if place + 12 > len(data):
        raise CutShort
    return tag, vr, struct.unpack_from(">I" if big else "<I", data, place + 8)[0], place + 12
