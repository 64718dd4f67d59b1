"""The view of a chest X-ray by its DICOM codes: PA, AP, LATERAL or unknown. Free text (a series description) is not looked at."""

from hilum.pixels.dicom.elements import Elements
from hilum.pixels.dicom.tags import Tag

# ViewPosition (0018,5101): the terms of PS3.3 C.8.11.5 and C.8.1.1 and what is often written instead. A decubitus is a frontal
# view, but of which kind is not said; an oblique is neither.
POSITIONS = {
    "PA": "PA",
    "AP": "AP",
    "LL": "LATERAL",
    "RL": "LATERAL",
    "LAT": "LATERAL",
    "LATERAL": "LATERAL",
    **dict.fromkeys(("LLD", "RLD", "LLO", "RLO"), "unknown"),
}
# ViewCodeSequence (0054,0220): SNOMED CT codes of PS3.16 CID 4010, then the SNOMED RT codes that they replaced.
CODES = {
    "272479007": "PA",
    "399348003": "AP",
    "399067008": "LATERAL",
    "399173006": "LATERAL",  # left
    "399198007": "LATERAL",  # right
    "R-10214": "PA",
    "R-40888": "PA",
    "R-10206": "AP",
    "R-102CD": "LATERAL",
    "R-10236": "LATERAL",
    "R-10232": "LATERAL",
}


def view_of(elements: Elements) -> tuple[str, str | None]:
    """(PA, AP, LATERAL or unknown; the header's own code, None where there is none)."""
    position = elements.text(Tag.VIEW_POSITION)
    item = elements.first_item(Tag.VIEW_CODE_SEQUENCE, (Tag.CODE_VALUE,))
    code = item.text(Tag.CODE_VALUE) if item else None
    # AP_HORIZONTAL and the like: the first word counts
    word = (position or "").upper().replace("_", " ").replace("-", " ").split()[:1]
    view = POSITIONS.get(word[0], "unknown") if word else "unknown"
    if view == "unknown" and code in CODES:
        return CODES[code], code
    return view, position or code


def known_code(raw: str | None) -> str | None:
    """The code if it is one of the lists above: what else stands there is not for provenance."""
    return raw if raw is not None and (raw.upper() in POSITIONS or raw in CODES) else None
