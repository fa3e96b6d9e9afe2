"""Downloads against a real HTTP server on this machine."""

import hashlib
import io
import re
import socket
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from coldray.core.errors import DownloadError, OutputError
from coldray.data.sources.download import _CHUNK_BYTES, _HETREC_MEMBERS, _fetch, _sound_zip, fetch_hetrec

CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


def verified(expected):
    """Return a check that a file has that hash."""

    def verify(path):
        found = hashlib.sha256(path.read_bytes()).hexdigest()
        return None if found == expected else f"its sha256 is {found}, not the expected {expected}"

    return verify


IS_CONTENT = verified(SHA256)


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        status = server.statuses.pop(0) if server.statuses else 200
        content, start = server.content, 0
        if status != 200 or self.path == "/absent":
            self.send_error(status if status != 200 else 404)
            return
        if asked and server.ranges:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
            if start >= len(content):
                self.send_error(416)
                return
            self.send_response(206)
            shift = server.shifts.pop(0) if server.shifts else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else len(content)
        self.wfile.write(content[start:end])
        if server.hang:
            server.release.wait(10)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.content, running.ranges, running.hang, running.release = CONTENT, True, False, threading.Event()
    running.requests, running.statuses, running.cuts, running.shifts = [], [], [], []
    running.url = f"http://127.0.0.1:{running.server_port}/file.bin"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield running
    running.release.set()
    running.shutdown()
    thread.join()
    running.server_close()


def get(server, target, verify=IS_CONTENT, **options):
    return _fetch(server.url, target, verify=verify, **{"backoff": 0.0, "timeout": 5.0, **options})


def test_a_file_arrives_whole_under_its_name_alone(server, tmp_path, capsys):
    target = get(server, tmp_path / "cache" / "file.bin")
    assert target.read_bytes() == CONTENT
    assert [path.name for path in target.parent.iterdir() if not path.name.startswith(".")] == ["file.bin"]
    printed = capsys.readouterr().err
    assert "Downloading file.bin (1.0 MB)" in printed
    assert printed.count("\n") == 1


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    get(server, tmp_path / "file.bin")
    get(server, tmp_path / "file.bin")
    assert len(server.requests) == 1


def test_a_cut_connection_is_continued_where_it_broke(server, tmp_path):
    server.cuts = [4 * _CHUNK_BYTES + 5, 3 * _CHUNK_BYTES + 5]
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests == [None, f"bytes={4 * _CHUNK_BYTES}-", f"bytes={7 * _CHUNK_BYTES}-"]


def test_a_later_call_continues_what_an_earlier_one_left(server, tmp_path):
    server.cuts = [4 * _CHUNK_BYTES]
    with pytest.raises(DownloadError):
        get(server, tmp_path / "file.bin", attempts=1)
    assert (tmp_path / "file.bin.part").stat().st_size == 4 * _CHUNK_BYTES
    assert not (tmp_path / "file.bin").exists()
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests[1] == f"bytes={4 * _CHUNK_BYTES}-"


def test_a_server_without_ranges_sends_the_whole_again(server, tmp_path):
    server.ranges = False
    (tmp_path / "file.bin.part").write_bytes(b"half of something")
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_part_that_is_already_complete_is_used(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests == [f"bytes={len(CONTENT)}-"]


def test_a_part_of_another_file_is_thrown_away_and_fetched_afresh(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(b"x" * 1000)
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_a_continuation_at_the_wrong_place_starts_over(server, tmp_path):
    server.shifts = [7]
    (tmp_path / "file.bin.part").write_bytes(CONTENT[:1000])
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT
    assert server.requests == ["bytes=1000-", None]


def test_a_wrong_checksum_is_refused_at_once_and_nothing_is_left(server, tmp_path):
    with pytest.raises(DownloadError, match=r"its sha256 is .*, not the expected 00ff") as caught:
        get(server, tmp_path / "file.bin", verified("00ff"))
    assert len(server.requests) == 1
    assert not (tmp_path / "file.bin").exists()
    assert not (tmp_path / "file.bin.part").exists()
    assert SHA256 in str(caught.value)


def test_not_found_is_refused_at_once_with_what_to_do_by_hand(server, tmp_path):
    server.url = server.url.replace("file.bin", "absent")
    with pytest.raises(DownloadError) as caught:
        get(server, tmp_path / "file.bin")
    for part in (server.url, "404", "Fetch file.bin by hand", str(tmp_path), "--data-dir"):
        assert part in str(caught.value)
    assert len(server.requests) == 1


def test_a_busy_server_is_asked_again(server, tmp_path):
    server.statuses = [503, 429]
    assert get(server, tmp_path / "file.bin").read_bytes() == CONTENT


def test_a_server_that_stays_busy_is_given_up_with_its_answer(server, tmp_path):
    server.statuses = [503] * 5
    with pytest.raises(DownloadError, match="503"):
        get(server, tmp_path / "file.bin")
    assert len(server.requests) == 3


def test_a_silent_server_is_given_up_in_time(server, tmp_path):
    server.hang, server.cuts = True, [1000, 0]
    start = time.monotonic()
    with pytest.raises(DownloadError):
        get(server, tmp_path / "file.bin", timeout=0.2, attempts=2)
    assert time.monotonic() - start < 5


def test_no_server_is_a_download_error_with_the_url(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/file.bin"
    with pytest.raises(DownloadError, match=re.escape(url)):
        _fetch(url, tmp_path / "file.bin", verify=IS_CONTENT, attempts=2, backoff=0.0)


def test_an_address_that_is_none_is_refused_without_waiting(tmp_path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no-scheme"):
        _fetch("no-scheme/file.bin", tmp_path / "file.bin", verify=IS_CONTENT, backoff=60.0)
    assert time.monotonic() - start < 5


def test_a_folder_that_cannot_be_written_is_an_output_error(server, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="Choose another folder"):
        get(server, tmp_path / "file" / "file.bin")


def test_two_at_once_fetch_it_once(server, tmp_path):
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(get(server, tmp_path / "file.bin").read_bytes() == CONTENT))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 4
    assert len(server.requests) == 1


def archive(names, damage=False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as target:
        for name in names:
            target.writestr(name, f"content of {name}")
    content = buffer.getvalue()
    return content.replace(b"content of movies", b"c0ntent of movies") if damage else content


@pytest.mark.parametrize("inside", ["", "hetrec/"])
def test_the_hetrec_archive_comes_from_the_address_in_the_environment(server, tmp_path, monkeypatch, inside):
    server.content = archive(inside + name for name in _HETREC_MEMBERS)
    monkeypatch.setenv("COLDRAY_HETREC_URL", server.url)
    path = fetch_hetrec(tmp_path)
    assert path == tmp_path / "hetrec2011-movielens-2k-v2.zip"
    assert path.read_bytes() == server.content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (archive(_HETREC_MEMBERS, damage=True), r"member movies\.dat is damaged"),
        (archive(_HETREC_MEMBERS[1:]), r"the archive lacks movies\.dat"),
        (archive(_HETREC_MEMBERS)[:-30], "not a complete zip archive"),
        (b"<html>Please log in to the hotel network</html>", "not a complete zip archive"),
    ],
)
def test_what_is_not_the_hetrec_archive_is_refused(server, tmp_path, monkeypatch, content, reason):
    server.content = content
    monkeypatch.setenv("COLDRAY_HETREC_URL", server.url)
    with pytest.raises(DownloadError, match=f"{reason}.*by hand.*--data-dir"):
        fetch_hetrec(tmp_path)
    assert [path for path in tmp_path.iterdir() if not path.name.startswith(".")] == []


def test_a_deflated_member_that_is_damaged_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as target:
        target.writestr("a", CONTENT)
    content = bytearray((tmp_path / "x.zip").read_bytes())
    content[40:200] = b"\xff" * 160
    (tmp_path / "x.zip").write_bytes(content)
    assert _sound_zip(["a"])(tmp_path / "x.zip") is not None
