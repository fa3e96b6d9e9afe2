"""How the files were read is told wherever a result is read."""

from dataclasses import replace

from coldray.cli.jobs.tune import tell_notes
from coldray.data.sources.sample import sample_dataset
from coldray.data.splits.assignment import drawn_parts
from coldray.experiments.data_check import check_split
from coldray.experiments.prepared import describe_dataset

NOTES = ["clicks.csv: timestamp is in milliseconds.", "clicks.csv: 3 blank lines are passed over."]


def noted():
    return replace(sample_dataset(0, 120, 60), provenance={"notes": NOTES})


def test_notes_are_in_what_reports_and_bundles_carry():
    assert describe_dataset(noted())["notes"] == NOTES
    assert "notes" not in describe_dataset(sample_dataset(0, 120, 60))


def test_notes_are_said_when_a_job_reads():
    said = []
    tell_notes(noted(), said.append)
    assert said == [f"note: {note}" for note in NOTES]


def test_notes_are_findings_of_a_check():
    check = check_split(drawn_parts(noted()), n_factors=3)
    assert [finding.text for finding in check.findings if finding.text in NOTES] == NOTES
