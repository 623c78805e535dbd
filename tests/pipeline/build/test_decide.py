"""Decisions about masks: a version that shares everything, and what leaves its rejected rows out."""

import numpy as np
import pytest

from locloc.pipeline.build.decide import decide_version, take_decisions_over
from locloc.pipeline.build.progress import ProgressCounter
from locloc.pipeline.build.spec import BuildSummary
from locloc.pipeline.commands.rendering.builds import print_summary
from locloc.pipeline.commands.rendering.review import print_decided
from locloc.pipeline.errors import StoreError
from locloc.pipeline.inspect.diff import diff_versions
from locloc.pipeline.inspect.report.decisions_csv import HEADER, decisions_csv, read_decisions_csv
from locloc.pipeline.inspect.verify import verify_version
from locloc.pipeline.io.console import one_line
from locloc.pipeline.status import Status, rejected_note, usable_rows
from locloc.pipeline.store import list_versions, open_version
from locloc.pipeline.store.gc import delete_version
from locloc.pipeline.store.schema import COLUMNS

IDS = [f"{n:03}.jpg" for n in range(150)]


@pytest.fixture
def version(tmp_path, made, write):
    """150 rows; row 3 is a fallback, rows 4 to 7 failed."""
    return write(tmp_path / "masks.store", made(IDS), tmp_path / "images")


@pytest.fixture
def decide(tmp_path):
    def decide(version, *lines, name=None):
        file = tmp_path / "decisions.csv"
        file.write_bytes(decisions_csv([(*line, "")[:3] for line in lines]).encode())
        return decide_version(version, read_decisions_csv(file), name)

    return decide


def size_bytes(store) -> int:
    return sum(file.stat().st_size for file in store.folder.rglob("*") if file.is_file())


def test_rejected_and_accepted_rows(version, decide):
    status = version.status.copy()
    summary = decide(
        version, ("010.jpg", "rejected", "the ear\nis missing"), ("003.jpg", "rejected"), ("100.jpg", "accepted", "é")
    )
    assert (summary.version, summary.rejected, summary.accepted, summary.changed) == ("v2", 2, 1, 3)
    decided = open_version(f"{version.store}@v2")
    assert np.flatnonzero(decided.status == Status.REJECTED).tolist() == [3, 10]
    assert [decided.table["decision"][row].as_py() for row in (3, 10, 100, 0)] == [
        "rejected",
        "rejected",
        "accepted",
        None,
    ]
    assert decided.table["note"][10].as_py() == "the ear\nis missing" and decided.table["note"][100].as_py() == "é"
    assert decided.table["status"][10].as_py() == "rejected" and decided.table["mask_share"][10].is_valid
    assert decided.provenance["counts"]["rejected"] == 2 and decided.provenance["parent"] == "v1"
    assert decided.provenance["fingerprint"] == version.provenance["fingerprint"]
    for name in ("mask", "attention", "error", *COLUMNS):
        if name != "status":
            assert np.array_equal(version.read_column(name), decided.read_column(name)), name
    assert verify_version(decided, files=False).ok
    # The parent is as it was.
    assert np.array_equal(open_version(version.name).status, status) and not len(open_version(version.name).decisions)


def test_no_chunk_of_masks_is_written(version, decide):
    chunks = {file.name for file in (version.store.folder / "chunks").iterdir()}
    decide(version, *((image_id, "rejected") for image_id in IDS if image_id > "020"))
    added = [file for file in (version.store.folder / "chunks").iterdir() if file.name not in chunks]
    assert len(added) <= 4  # status and the decisions; chunks of few bytes are inline


def test_what_reads_versions_leaves_rejected_rows_out(version, decide):
    decide(version, ("010.jpg", "rejected"), ("003.jpg", "rejected"))
    decided = open_version(f"{version.store}@v2")
    assert np.flatnonzero(usable_rows(version.status) != usable_rows(decided.status)).tolist() == [3, 10]
    names = [image_id for image_id, _ in decided.original_masks()]
    assert "010.jpg" not in names and "011.jpg" in names
    assert np.array_equal(decided.mask("010.jpg"), version.mask("010.jpg"))  # asked for by name
    assert rejected_note(decided.status, "x") == "2 rows are rejected in x, and left out (`locloc masks decide`)"
    assert rejected_note(version.status, "x") is None
    assert "2 rejected" in repr(decided)


def test_versions_of_older_releases_count_no_rejections(version):
    del version.provenance["counts"]["rejected"]
    assert verify_version(version, files=False).ok


def test_decisions_add_up_and_are_taken_back(version, decide):
    decide(version, ("010.jpg", "rejected", "a"), ("003.jpg", "rejected"), ("011.jpg", "accepted"))
    second = open_version(f"{version.store}@v2")
    decide(second, ("010.jpg", "undecided"), ("003.jpg", "undecided"), ("011.jpg", "rejected"), ("012.jpg", "accepted"))
    third = open_version(f"{version.store}@v3")
    assert [third.table["status"][row].as_py() for row in (3, 10, 11)] == ["fallback", "ok", "rejected"]
    assert third.decisions.rows.tolist() == [11, 12] and not third.decisions.notes
    assert third.table["error"][3].as_py() == version.table["error"][3].as_py()
    assert verify_version(third, files=False).ok
    diff = diff_versions(second, third)
    assert diff.changed["decision"].rows == 4 and diff.changed["status"].rows == 3 and diff.changed["mask"].rows == 0
    assert diff.statuses["rejected"] == {"ok": 1, "fallback": 1}
    decide(third, ("011.jpg", "undecided"), ("012.jpg", "undecided"))
    fourth = open_version(f"{version.store}@v4")
    assert "decisions" not in fourth.group and np.array_equal(fourth.status, version.status)


def test_a_note_needs_no_decision(version, decide):
    assert decide(version, ("010.jpg", "rejected"), ("012.jpg", "undecided", "look"), ("005.jpg", "undecided", "why?"))
    second = open_version(f"{version.store}@v2")
    assert [second.table["note"][row].as_py() for row in (5, 10, 12)] == ["why?", None, "look"]
    assert [second.table["decision"][row].as_py() for row in (5, 10, 12)] == [None, "rejected", None]
    assert (len(second.decisions), second.decisions.decided) == (3, 1) and verify_version(second, files=False).ok
    assert decide(second, ("012.jpg", "undecided", "look")).already_there
    decide(second, ("012.jpg", "undecided"), ("010.jpg", "undecided", "was rejected"))
    third = open_version(f"{version.store}@v3")
    assert third.decisions.notes == {5: "why?", 10: "was rejected"} and not third.decisions.decided
    assert np.array_equal(third.status, version.status)


def test_notes_of_another_version_do_not_undo_decisions(version, decide):
    decide(version, ("010.jpg", "rejected", "mine"))
    theirs = (("005.jpg", "why?"), ("010.jpg", "theirs"), ("011.jpg", "new"))  # the first one has no mask
    decide(version, *((image_id, "undecided", note) for image_id, note in theirs), name="other")
    own, other = (open_version(f"{version.store}@{tag}") for tag in ("v2", "other"))
    joined = take_decisions_over(own, other)
    assert joined.decisions.rejected.tolist() == [10] and joined.decisions.notes == {5: "why?", 10: "mine", 11: "new"}


def test_the_same_decisions_are_published_once(version, decide):
    assert not decide(version, ("010.jpg", "rejected"), name="judged").already_there
    for name in (None, "judged"):
        again = decide(version, ("010.jpg", "rejected"), name=name)
        assert again.already_there and again.version == "judged"
    judged = open_version(f"{version.store}@judged")
    nothing = decide(judged, ("010.jpg", "rejected"), ("011.jpg", "undecided"))
    assert nothing.already_there and nothing.changed == 0 and nothing.version == "judged"
    for parent in (version, judged):
        with pytest.raises(StoreError, match="@judged is this version already, .* no 'other' was made; use .*@judged"):
            decide(parent, ("010.jpg", "rejected"), name="other")
    assert len(list_versions(version.store)) == 2


def test_the_name_of_a_deleted_version_is_told(version, decide, capsys):
    decide(version, ("010.jpg", "rejected"), name="judged")
    delete_version(version.store, "judged")
    summary = decide(version, ("010.jpg", "rejected"), name="judged")
    assert summary.version == "v2"
    print_decided(summary, version.store)
    assert "judged is the name of a deleted version, which cannot be used again" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([("10.jpg", "rejected")], r"decisions.csv:2: .*@v1 holds no image '10.jpg'; is the file of another store"),
        ([("a", "rejected"), ("b", "accepted")], r"decisions.csv:2: .*no image 'a' \(and 1 more\)"),
        (
            [("010.jpg", "rejected"), ("010.jpg", "accepted")],
            r"decisions.csv:3: '010.jpg' is accepted here and rejected in",
        ),
        ([("005.jpg", "rejected")], r"decisions.csv:2: '005.jpg' has no mask to decide about .*status non-finite"),
        ([("010.jpg", "reject")], r"decisions.csv:2: no decision 'reject'; did you mean 'rejected'"),
        ([("", "rejected")], r"decisions.csv:2: a decision about no id"),
        ([], r"decisions.csv holds no decision"),
    ],
)
def test_wrong_files_change_nothing(version, decide, lines, message):
    before = size_bytes(version.store)
    with pytest.raises(StoreError, match=message) as error:
        decide(version, *lines)
    assert "\n" not in str(error.value)
    assert [info.tag for info in list_versions(version.store)] == ["v1"] and size_bytes(version.store) == before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "1: no column 'id'"),
        (b"name,decision\n", "1: no column 'id'"),
        (b"id,decision,id\n", "1: two columns 'id'"),
        (b"id,decision\na,rejected,3\n", "2: 3 fields where the first line has 2"),
        (b'id,decision\n"a,rejected\n', "2: broken CSV"),
        (b"id,decision\n\xff,rejected\n", "not UTF-8"),
    ],
)
def test_broken_files(tmp_path, text, message):
    file = tmp_path / "decisions.csv"
    file.write_bytes(text)
    with pytest.raises(StoreError, match=message):
        read_decisions_csv(file)
    with pytest.raises(StoreError, match="cannot be read: no such file"):
        read_decisions_csv(tmp_path / "none.csv")


def test_files_of_spreadsheets(tmp_path):
    file = tmp_path / "decisions.csv"
    file.write_bytes('\ufeffid;decision;note;mine\r\n"a;b";Rejected;"x ""y""";1\r\na;accepted;;\r\n'.encode())
    read = read_decisions_csv(file)
    assert [(one.id, one.decision, one.note) for one in read.values()] == [
        ("a;b", "rejected", 'x "y"'),
        ("a", "accepted", ""),
    ]


def test_any_id_survives_the_file(tmp_path):
    ids = ["\"quoted\",'it'", "line\nbreak\r\n", "</script><script>", "עברית\u202e", "🐎", "=1+1", " a "]
    file = tmp_path / "decisions.csv"
    file.write_bytes(decisions_csv([(image_id, "rejected", image_id) for image_id in ids]).encode())
    assert list(read_decisions_csv(file)) == ids
    assert file.read_bytes().startswith(",".join(HEADER).encode())


def test_equal_lines_count_once(tmp_path):
    file = tmp_path / "decisions.csv"
    file.write_text("id,decision,note\na,rejected,x\na,rejected,\na,rejected,y\na,rejected,x\n")
    assert [(one.decision, one.note) for one in read_decisions_csv(file).values()] == [("rejected", "x; y")]


def test_rejected_rows_have_not_failed(version, decide, capsys):
    """After `masks retry` and `extend` of a version with decisions."""
    decided = decide(version, ("000.jpg", "rejected"), ("001.jpg", "rejected"))
    snapshots = []
    counter = ProgressCounter(snapshots.append)
    counter.begin(open_version(f"{version.store}@{decided.version}").status)
    counter.report("")
    assert snapshots[0].failed == 4
    counts = open_version(f"{version.store}@{decided.version}").provenance["counts"]
    print_summary(BuildSummary("v3", "0" * 64, counts), "masks.store")
    assert "(1 empty or fallback, 4 failed, 2 rejected)" in " ".join(capsys.readouterr().out.split())
