import csv
import io
import json

import pytest

from steernode.canonical import canonical_json, sha256_hex
from steernode.errors import VerificationFailed
from steernode.proof.events import WEIGHTS_UNCHANGED, event_digest
from steernode.proof.export import (
    CSV_COLUMNS,
    csv_row,
    csv_text,
    escape_cell,
    event_line,
    export_header,
    header_line,
)
from steernode.proof.verify import verify_export
from tests.support.exports import EVENTS, ZERO, chain, csv_file, header_of, jsonl, make_body

CHECKED = {"weights_checked_by": "node-1", "weights_checked_files": ["model.safetensors"]}


@pytest.fixture
def verify(tmp_path):
    def run(data, **options):
        path = tmp_path / "export"
        path.write_bytes(data)
        return verify_export(path, **options)

    return run


def failure(verify, data, **options):
    with pytest.raises(VerificationFailed) as caught:
        verify(data, **options)
    return caught.value


def test_the_digest_is_sha256_of_the_raw_previous_digest_and_the_body():
    assert event_digest(ZERO, b"{}") == sha256_hex(bytes(32) + b"{}")


@pytest.mark.parametrize("write", [jsonl, csv_file])
def test_an_untouched_export_verifies(verify, write):
    report = verify(write(EVENTS), expected_head=EVENTS[-1]["digest"])
    assert (report.events, report.from_seq, report.to_seq, report.objects) == (8, 1, 8, 2)
    assert report.head == EVENTS[-1]["digest"]
    assert report.is_from_start
    assert report.to_document()["format"] == ("jsonl" if write is jsonl else "csv")


@pytest.mark.parametrize("write", [jsonl, csv_file])
def test_an_export_of_a_later_part_verifies_and_says_so(verify, write):
    report = verify(write(EVENTS[3:]))
    assert (report.events, report.from_seq, report.is_from_start) == (5, 4, False)


@pytest.mark.parametrize("write", [jsonl, csv_file])
def test_an_empty_export_verifies(verify, write):
    assert verify(write([], export_header(from_seq=1, to_seq=0, count=0, head_seq=0, head_digest=ZERO, exported_at="now"))).events == 0


@pytest.mark.parametrize("index", range(8))
def test_one_changed_byte_of_any_body_is_located(verify, index):
    data = jsonl(EVENTS)
    lines = data.split(b"\n")
    lines[index + 1] = lines[index + 1].replace(b"0.5", b"0.6")
    found = failure(verify, b"\n".join(lines))
    assert (found.code, found.item) == ("E_DIGEST", f"event {index + 1}")
    assert f"event-{index + 1}" in found.message


def test_a_flipped_byte_anywhere_in_an_export_is_noticed(verify):
    """Only the export's own date is not covered by any digest."""
    data = jsonl(EVENTS[:2])
    spared = data.index(b'"exported_at":"') + len(b'"exported_at":"')
    for position in range(0, len(data), 2):
        if spared <= position < spared + len("2026-11-22T11:00:00Z"):
            continue
        mutated = bytearray(data)
        mutated[position] ^= 1
        assert failure(verify, bytes(mutated)).code.startswith("E_")


@pytest.mark.parametrize("write", [jsonl, csv_file])
def test_a_removed_reordered_or_repeated_event_is_located(verify, write):
    removed = EVENTS[:3] + EVENTS[4:]
    found = failure(verify, write(removed, header_of(EVENTS)))
    assert (found.code, found.item) == ("E_CHAIN", "event 5")
    swapped = [*EVENTS[:2], EVENTS[3], EVENTS[2], *EVENTS[4:]]
    assert failure(verify, write(swapped, header_of(EVENTS))).item == "event 4"
    repeated = [*EVENTS[:3], EVENTS[2], *EVENTS[3:]]
    assert failure(verify, write(repeated, header_of(EVENTS))).code == "E_CHAIN"


@pytest.mark.parametrize("write", [jsonl, csv_file])
def test_a_cut_tail_is_noticed(verify, write):
    assert failure(verify, write(EVENTS[:-1], header_of(EVENTS))).code == "E_COUNT"
    assert failure(verify, write(EVENTS)[:-1] if write is jsonl else write(EVENTS).rsplit(b"\r\n", 2)[0] + b"\r\n").code == "E_COUNT"


def test_a_head_of_another_log_is_noticed(verify):
    assert failure(verify, jsonl(EVENTS, header_of(EVENTS, head_digest="ab" * 32))).code == "E_CHAIN"
    assert failure(verify, jsonl(EVENTS), expected_head="ab" * 32).code == "E_HEAD"
    assert failure(verify, jsonl(EVENTS, header_of(EVENTS, from_seq=2))).code == "E_COUNT"


def test_a_log_rewritten_whole_is_caught_by_a_head_noted_earlier(verify):
    rewritten = chain(make_body(seq, actor={"type": "person", "name": "eve"}) for seq in range(1, 9))
    assert verify(jsonl(rewritten)).events == 8
    assert failure(verify, jsonl(rewritten), expected_head=EVENTS[-1]["digest"]).code == "E_HEAD"


def test_a_first_event_that_follows_something_is_noticed(verify):
    assert failure(verify, jsonl(chain([make_body(1)], prev="ab" * 32))).code == "E_CHAIN"


@pytest.mark.parametrize("version", [1, 3, 5])
def test_a_missing_version_of_an_object_is_located(verify, version):
    bodies = [make_body(1), make_body(2), make_body(3, object={"type": "flag", "id": "f1", "name": "x", "version": version})]
    found = failure(verify, jsonl(chain(bodies)))
    assert (found.code, found.item) == ("E_OBJECT_GAP", "event 3")


def test_an_object_that_does_not_start_at_one_is_noticed(verify):
    body = make_body(1, object={"type": "flag", "id": "f1", "name": "x", "version": 2})
    assert failure(verify, jsonl(chain([body]))).code == "E_OBJECT_GAP"


@pytest.mark.parametrize(
    "body",
    [
        make_body(1, inference_configuration="weights changed"),
        make_body(1, _="steerhub.audit/3"),
        make_body(1, _="steerhub.audit/1"),
        # That the weights are unchanged says only who looked, and at which files.
        make_body(1, inference_configuration=WEIGHTS_UNCHANGED),
        make_body(1, inference_configuration=WEIGHTS_UNCHANGED, base_model_fingerprint="ab" * 32),
        make_body(1, inference_configuration=WEIGHTS_UNCHANGED, details=CHECKED),
        make_body(
            1, inference_configuration=WEIGHTS_UNCHANGED, base_model_fingerprint="ab" * 32, details={**CHECKED, "weights_checked_files": []}
        ),
        make_body(1, base_model_fingerprint="ab" * 32, details=CHECKED),
        make_body(1, surprise=1),
        make_body(1, actor={"type": "person"}),
        make_body(1, object={"type": "flag", "id": "f", "name": "n", "version": "1"}),
        make_body(1, object={"type": ["flag"], "id": "f", "name": "n", "version": 1}),
        make_body(1, tenant=5),
        {name: value for name, value in make_body(1).items() if name != "action"},
        json.dumps(make_body(1)).encode(),
        canonical_json(make_body(1))[:-1] + b',"_":"again"}',
    ],
)
def test_a_body_that_is_no_canonical_event_is_refused(verify, body):
    assert failure(verify, jsonl(chain([body]))).code == "E_BODY"


def test_weights_unchanged_stands_where_it_says_who_looked_and_in_events_from_before(verify):
    checked = make_body(1, inference_configuration=WEIGHTS_UNCHANGED, base_model_fingerprint="ab" * 32, details=CHECKED)
    before = make_body(2, _="steerhub.audit/1", inference_configuration=WEIGHTS_UNCHANGED)
    assert verify(jsonl(chain([checked, before]))).events == 2


def test_a_body_of_another_number_is_refused(verify):
    event = chain([make_body(2)])[0] | {"seq": 1}
    assert failure(verify, jsonl([event])).code == "E_BODY"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"nonsense\n",
        b"{}\n",
        b"\xff\xfe\n",
        header_line(header_of(EVENTS)) + b"[]\n",
        header_line(header_of(EVENTS)) + b'{"seq":1}\n',
        header_line(header_of(EVENTS)) + event_line(**EVENTS[0]).replace(b'"seq":1,', b'"seq":"1",').replace(b'"seq":1}', b'"seq":"1"}'),
        header_line(header_of(EVENTS)) + event_line(**(EVENTS[0] | {"digest": "AB" * 32})),
        header_line(header_of(EVENTS)) + b"x" * (1024 * 1024 + 10) + b"\n",
        header_line(header_of(EVENTS) | {"count": True}),
        header_line(header_of(EVENTS) | {"head": None}),
        header_line(header_of(EVENTS) | {"surprise": 1}),
        b"seq,nonsense\r\n",
        b'seq,"unclosed',
        csv_text(CSV_COLUMNS).encode() + b"1,2,3\r\n",
        csv_file(EVENTS) + csv_text(csv_row(**{name: EVENTS[0][name] for name in ("body", "digest", "prev")})).encode(),
    ],
)
def test_what_is_no_export_is_refused(verify, data):
    assert failure(verify, data).code == "E_PACK"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(VerificationFailed) as caught:
        verify_export(tmp_path / "absent")
    assert caught.value.code == "E_PACK"


@pytest.mark.parametrize("column", [name for name in CSV_COLUMNS if name not in ("seq", "digest", "prev", "body")])
def test_a_column_that_differs_from_its_event_is_named(verify, column):
    rows = [csv_row(body=event["body"], digest=event["digest"], prev=event["prev"]) for event in EVENTS]
    rows[2][CSV_COLUMNS.index(column)] = "edited"
    found = failure(verify, csv_file(EVENTS, rows=rows))
    assert (found.code, found.item) == ("E_PROJECTION", "event 3")
    assert column in found.message


def test_no_cell_of_a_spreadsheet_is_a_formula():
    data = csv_file(EVENTS).decode()
    for row in csv.reader(io.StringIO(data)):
        assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in row)
    assert [escape_cell(text) for text in ("=1", "+1", "-1", "@x", "\tx", "plain", "")] == ["'=1", "'+1", "'-1", "'@x", "'\tx", "plain", ""]


def test_verification_needs_neither_torch_nor_django_nor_a_network():
    import subprocess
    import sys

    program = "import sys, steernode.proof.verify; print(sorted({'torch', 'django', 'httpx', 'socket'} & set(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
