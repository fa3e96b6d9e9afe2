"""Records outlive whatever cuts a file off, and a change of what was written is noticed."""

import errno
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coldray.core.errors import JournalError, OutputError
from coldray.core.journal import Journal

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
RECORDS = st.lists(
    st.dictionaries(st.text().filter(lambda name: name != "crc"), VALUES, min_size=1, max_size=3), max_size=5
)


@pytest.fixture
def journal(tmp_path):
    return Journal(tmp_path / "made" / "events.jsonl")


def filled(journal, count=5):
    records = [{"event": "split", "trial": number, "metrics": {"ndcg@10": 0.1 * number}} for number in range(count)]
    for record in records:
        journal.append(record, durable=record["trial"] % 2 == 0)
    return records


def test_an_absent_journal_is_empty_and_reading_makes_none(journal):
    assert journal.read() == []
    assert not journal.path.parent.exists()


def test_records_come_back_in_their_order_in_another_process_too(journal):
    records = filled(journal)
    assert Journal(journal.path).read() == journal.read() == records


@given(RECORDS)
def test_any_record_comes_back_as_it_was(tmp_path_factory, records):
    journal = Journal(tmp_path_factory.mktemp("j") / "events.jsonl")
    for record in records:
        journal.append(record)
    assert Journal(journal.path).read() == records


def test_each_line_is_a_json_object_for_whoever_else_reads_it(journal):
    records = filled(journal)
    lines = [json.loads(line) for line in journal.path.read_text().splitlines()]
    assert [{name: value for name, value in line.items() if name != "crc"} for line in lines] == records


def test_wherever_the_file_is_cut_off_the_complete_records_are_kept_and_more_can_follow(journal):
    records = filled(journal, 3)
    content = journal.path.read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(content) if byte == 10)]
    for length in range(len(content) + 1):
        journal.path.write_bytes(content[:length])
        kept = sum(end <= length for end in ends) - 1
        again = Journal(journal.path)
        assert again.read() == records[:kept]
        again.append({"event": "more"})
        assert Journal(journal.path).read() == [*records[:kept], {"event": "more"}]


def test_a_changed_byte_is_told_with_its_line_and_the_way_out(journal):
    filled(journal, 3)
    content = journal.path.read_bytes()
    starts = [0, *(place + 1 for place, byte in enumerate(content) if byte == 10)]
    for place in range(len(content) - 1):
        journal.path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        line = sum(start <= place for start in starts)
        with pytest.raises(JournalError, match=rf"^Line {line} of .*events\.jsonl is damaged.*delete the line"):
            Journal(journal.path).read()
        with pytest.raises(JournalError):
            Journal(journal.path).append({"event": "more"})


def test_a_line_that_is_deleted_costs_its_record_alone(journal):
    records = filled(journal)
    lines = journal.path.read_bytes().splitlines(keepends=True)
    journal.path.write_bytes(b"".join(lines[:2] + lines[3:]))
    assert Journal(journal.path).read() == records[:2] + records[3:]


def test_a_record_that_only_fits_in_part_leaves_no_trace(journal, monkeypatch):
    records = filled(journal, 2)
    real = journal.path.open

    class Nearly:
        """A file on a disk with room for ten bytes."""

        def __init__(self, file):
            self.file, self.room = file, 10

        def write(self, data):
            if not self.room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written, self.room = self.file.write(data[: self.room]), 0
            return written

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def __getattr__(self, name):
            return getattr(self.file, name)

    with monkeypatch.context() as patch:
        patch.setattr(type(journal.path), "open", lambda *args, **kwargs: Nearly(real(*args[1:], **kwargs)))
        with pytest.raises(OutputError, match="No space left on device"):
            journal.append({"event": "too much"})
    assert Journal(journal.path).read() == records
    journal.append({"event": "later"})
    assert Journal(journal.path).read() == [*records, {"event": "later"}]


def test_several_threads_append_whole_records(journal):
    def work(number):
        for i in range(50):
            journal.append({"thread": number, "i": i})

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Journal(journal.path).read()
    for number in range(4):
        assert [record["i"] for record in found if record["thread"] == number] == list(range(50))
    assert len(found) == 200
