"""The last line of defence of every job: an error that nobody foresaw."""

from coldray.cli.command import reported


def test_an_error_that_nobody_foresaw_is_shown_with_its_place_and_without_passwords(capsys):
    def work():
        try:
            raise KeyError("postgresql://me:geheim@db/x")
        except KeyError as error:
            raise RuntimeError("https://me:geheim@host/?token=geheim [b]") from error

    assert reported(work) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "geheim" not in printed.err
    assert "in work" in printed.err
    assert "RuntimeError: https://me:***@host/?token=*** [b]\n" in printed.err
    last = printed.err.splitlines()[-1]
    assert last.startswith("error: RuntimeError: https://me:***@host/?token=*** [b]. This is a fault of the program")
    assert last.endswith("--resume goes on with a study.")
