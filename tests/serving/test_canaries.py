"""Marks in every corner of a file and a request: none of them may come out of the server (R17)."""

import re
import tempfile
from pathlib import Path

import httpx
import pydicom
import pytest
from pydicom.dataset import Dataset

from tests.pixels import dicom_files as d

CHEST = d.chest()
MARK = "ZEBRA"
PUBLIC = [
    "AccessionNumber",
    "AcquisitionComments",
    "AcquisitionDeviceProcessingDescription",
    "AdditionalPatientHistory",
    "AdmissionID",
    "AdmittingDiagnosesDescription",
    "Allergies",
    "BodyPartExamined",
    "BranchOfService",
    "CountryOfResidence",
    "CurrentPatientLocation",
    "DetectorID",
    "DeviceSerialNumber",
    "EthnicGroup",
    "FillerOrderNumberImagingServiceRequest",
    "ImageComments",
    "InstitutionAddress",
    "InstitutionName",
    "InstitutionalDepartmentName",
    "IssuerOfPatientID",
    "Manufacturer",
    "ManufacturerModelName",
    "MedicalAlerts",
    "MedicalRecordLocator",
    "NameOfPhysiciansReadingStudy",
    "Occupation",
    "OperatorsName",
    "PatientAddress",
    "PatientBirthName",
    "PatientComments",
    "PatientID",
    "PatientMotherBirthName",
    "PatientName",
    "PatientReligiousPreference",
    "PatientTelephoneNumbers",
    "PerformingPhysicianName",
    "PhysiciansOfRecord",
    "PlacerOrderNumberImagingServiceRequest",
    "ProtocolName",
    "ReferringPhysicianName",
    "RegionOfResidence",
    "RequestedProcedureDescription",
    "RequestingPhysician",
    "SeriesDescription",
    "SoftwareVersions",
    "StationName",
    "StudyDescription",
    "StudyID",
]
META = ("SourceApplicationEntityTitle", "SendingApplicationEntityTitle")
PRIVATE = ("LO", "SH", "PN", "LT", "UN", "OB")
NESTED = ("OtherPatientIDsSequence", "RequestAttributesSequence", "RequestedProcedureCodeSequence")
MALFORMED = ("PatientAge", "StudyDate", "StudyTime", "PatientBirthDate", "WindowWidth", "WindowCenter", "RescaleSlope", "ViewPosition",
             "PatientSex", "StudyInstanceUID", "InstanceNumber", "PixelSpacing", "PatientOrientation", "SpecificCharacterSet")  # fmt: skip
COUNT = 60


def marked(ds: Dataset) -> None:
    """Put a mark of its own into each of 60 elements: public, of the file's meta header, private, nested, nested and private."""
    marks = (f"{MARK}{number:02d}" for number in range(1, 1000))
    for name in PUBLIC:
        setattr(ds, name, next(marks))
    for name in META:
        setattr(ds.file_meta, name, next(marks))
    block = ds.private_block(0x0011, "ACME", create=True)
    for place, kind in enumerate(PRIVATE):
        text = next(marks)
        block.add_new(place, kind, text.encode().ljust(8) if kind in ("UN", "OB") else text)
    for name in NESTED:
        item = Dataset()
        item.PatientName = next(marks)
        setattr(ds, name, [item])
    item, within = Dataset(), Dataset()
    within.PatientID = next(marks)
    item.OtherPatientIDsSequence = [within]
    block.add_new(len(PRIVATE), "SQ", [item])


def files() -> dict[str, bytes]:
    """Files with marks: all sixty, and malformed values one by one."""
    made = {"sixty": d.dicom(CHEST, bits=8, change=marked)}
    text = f"{MARK}99"
    for name in MALFORMED:
        tag = pydicom.datadict.tag_for_keyword(name)
        whole = d.dicom(CHEST, bits=8, change=lambda ds, tag=tag: ds.add_new(tag, "LO", text))  # a VR that may hold it
        kind = pydicom.datadict.dictionary_VR(tag).encode()
        place = whole.index(tag.to_bytes(4, "big")[1::-1] + tag.to_bytes(4, "big")[:1:-1] + b"LO") + 4
        made[name] = whole[:place] + kind + whole[place + 2 :]  # and the one it has to have
    return made


def test_the_marks_are_there():
    found = {*re.findall(rb"ZEBRA\d\d", files()["sixty"])}
    assert len(found) == COUNT == len(PUBLIC) + len(META) + len(PRIVATE) + len(NESTED) + 1
    for name in MALFORMED:
        assert f"{MARK}99".encode() in files()[name], name


@pytest.mark.parametrize("route", ["predict", "explain"])
def test_nothing_of_a_patient_is_said_or_kept(server, route):
    """Well-formed and malformed values, cut files, file names, fields of the form, paths and headers of the request."""
    asked = {
        "predict": [{}, {"age": MARK}, {MARK: "1"}, {"sex": MARK}],
        "explain": [{"finding": "Mass"}, {"finding": MARK}],
    }[route]
    answers, here = [], {"file": set(Path(tempfile.gettempdir()).iterdir())}
    for number, data in enumerate(files().values()):
        for spoiled in (data, data[: len(data) // 2], data.replace(b"DICM", b"DICM" + MARK.encode())):
            form = asked[number % len(asked)] if spoiled is data and number else asked[0]
            sent = [("files", (f"{MARK}.dcm", spoiled))]
            answers.append(httpx.post(f"{server.url}/api/v1/{route}", files=sent, data=form, timeout=60))
    assert answers[0].status_code == 200, "the file with sixty marks is read"
    httpx.get(f"{server.url}/{MARK}", headers={"Authorization": f"Bearer {MARK}", "User-Agent": MARK})
    said = [answer.content + repr(answer.headers).encode() for answer in answers]
    said += [httpx.get(f"{server.url}/metrics").content, server.log.read_bytes(), server.audit.read_bytes()]
    assert not [text[:200] for text in said if MARK.encode() in text]
    assert not re.search(rb"Doe|John|Jane", b"".join(said))
    assert not [file for file in set(Path(tempfile.gettempdir()).iterdir()) - here["file"] if MARK in file.name]
