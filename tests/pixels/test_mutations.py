"""Damaged files through the isolated decoder, the short form of bench/mutations.py."""

import pytest

from hilum.errors import UnreadableImage
from hilum.pixels.isolated.decoder import CODES, Decoder
from tests.pixels.files import picture, png
from tests.pixels.mutations import damaged, seeds

GREY = picture()
COUNT = 200


def test_whole_files_are_read_and_damage_follows_from_its_number() -> None:
    with Decoder(seconds=60) as decoder:
        for name, data in seeds().items():
            if "1.2.1.99" in name:
                with pytest.raises(UnreadableImage):
                    decoder.decode(data)
            else:
                assert min(decoder.decode(data).image.shape) == 80
    assert [damaged(k) for k in range(20)] == [damaged(k) for k in range(20)]


def test_every_damaged_file_gets_its_answer() -> None:
    answers = set()
    with Decoder(seconds=60) as decoder:
        for number in range(COUNT):
            made, data = damaged(number)
            try:
                answer, words = "read", str(decoder.decode(data).provenance)
            except UnreadableImage as error:
                answer, words = error.code, str(error)
            answers.add(answer)
            assert not any(patient in words for patient in ("P17", "Doe", "19600301")), made
        assert (decoder.decode(png(GREY)).image == GREY).all()
    assert {"read", "undecodable", "broken-header"} <= answers <= {"read", *CODES}
