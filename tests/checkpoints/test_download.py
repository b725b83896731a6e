"""Downloads from a server on loopback that misbehaves in a different way for each request."""

import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from e2mc.checkpoints.download import DownloadError, download

CONTENT = np.random.default_rng(0).integers(0, 256, 300_000, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Takes the next of ``server.plan``, or answers well when it is used up."""

    def do_GET(self):
        server = self.server
        behaviour = server.plan.pop(0) if server.plan else "whole"
        asked = self.headers.get("Range")
        server.requests.append((behaviour, asked))
        if isinstance(behaviour, int):
            self.send_error(behaviour)
            return
        content = server.content
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        same = self.headers.get("If-Range") in (None, server.etag)
        honours = server.honours_range and start and same
        if honours and start >= len(content):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(content)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if honours:
            begin = start + 7 if behaviour == "wrong-offset" else start
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            begin = 0
            self.send_response(200)
        body = content[begin:]
        if behaviour != "no-length":
            self.send_header("Content-Length", str(len(body)))
        if server.etag:
            self.send_header("ETag", server.etag)
        self.end_headers()
        if behaviour == "truncate":
            body = body[: len(body) // 2]
        elif behaviour == "wrong-bytes":
            body = bytes(len(body))
        elif behaviour == "stall":
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            server.woken.wait(10)
            return
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.plan, made.requests, made.content = [], [], CONTENT
    made.honours_range, made.etag, made.woken = True, '"first"', threading.Event()
    made.url = f"http://127.0.0.1:{made.server_port}/files/model.pth"
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.woken.set()
    made.shutdown()
    made.server_close()


@pytest.fixture
def server():
    with serving() as made:
        yield made


@pytest.fixture
def archive():
    with serving() as made:
        yield made


def fetch(server, path, **options):
    return download(server.url, path, **({"timeout": 0.3, "attempts": 3, "wait": 0.01} | options))


def ranges(server):
    return [asked for _, asked in server.requests]


def test_whole_file_its_record_and_no_leftovers(server, tmp_path):
    path = tmp_path / "bases" / "model.pth"
    source = fetch(server, path)
    assert path.read_bytes() == CONTENT
    assert (source.size, source.sha256) == (len(CONTENT), SHA256)
    record = json.loads((path.parent / "model.pth.source.json").read_text())
    assert record == {"url": server.url, "size": len(CONTENT), "sha256": SHA256}
    assert {file.name for file in path.parent.iterdir()} == {"model.pth", "model.pth.source.json"}


def test_file_that_is_there_is_checked_and_not_fetched_again(server, tmp_path):
    fetch(server, tmp_path / "model.pth")
    fetch(server, tmp_path / "model.pth")
    assert len(server.requests) == 1
    (tmp_path / "model.pth").write_bytes(CONTENT[:-1] + b"?")
    with pytest.raises(DownloadError, match="delete it to have it downloaded again"):
        fetch(server, tmp_path / "model.pth")


@pytest.mark.parametrize("fault", ["truncate", "stall"])
def test_goes_on_where_the_connection_ended(fault, server, tmp_path):
    server.plan = [fault]
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    assert ranges(server) == [None, f"bytes={len(CONTENT) // 2}-"]


def test_begins_anew_where_range_is_ignored(server, tmp_path):
    server.plan, server.honours_range = ["truncate"], False
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_a_later_call_goes_on_after_giving_up(server, tmp_path):
    server.plan = ["truncate", 503, 503, 503]
    with pytest.raises(DownloadError, match=r"503.*tried 3 times.*start again to go on"):
        fetch(server, tmp_path / "model.pth")
    assert not (tmp_path / "model.pth").exists()
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT
    assert ranges(server)[-1] == f"bytes={len(CONTENT) // 2}-"


def test_progress_makes_the_count_of_failures_begin_anew(server, tmp_path):
    server.plan = ["truncate"] * 8
    fetch(server, tmp_path / "model.pth", attempts=2)
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_truncation_at_the_same_byte_for_ever_ends(server, tmp_path):
    server.plan, server.honours_range = ["truncate"] * 20, False
    with pytest.raises(DownloadError, match=r"ended at byte 150000 of 300000; tried 3 times"):
        fetch(server, tmp_path / "model.pth")


def test_file_that_changed_on_the_server_is_not_mixed_with_the_old_part(server, tmp_path):
    server.plan = ["truncate", 404]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "model.pth")
    server.content, server.etag = CONTENT[::-1], '"second"'
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT[::-1]


def test_part_of_another_address_is_discarded(server, tmp_path):
    server.plan = ["truncate", 404]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "model.pth")
    server.url += "?other"
    fetch(server, tmp_path / "model.pth")
    assert ranges(server)[-1] is None


def test_part_that_is_already_whole(server, tmp_path):
    server.plan = ["truncate", 404]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "model.pth")
    (tmp_path / "model.pth.part").write_bytes(CONTENT)
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_part_longer_than_the_file_begins_anew(server, tmp_path):
    server.plan = ["truncate", 404]
    with pytest.raises(DownloadError):
        fetch(server, tmp_path / "model.pth")
    (tmp_path / "model.pth.part").write_bytes(CONTENT + b"more")
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_answer_from_another_byte_than_asked_is_not_used(server, tmp_path):
    server.plan = ["truncate", "wrong-offset"]
    fetch(server, tmp_path / "model.pth")
    assert (tmp_path / "model.pth").read_bytes() == CONTENT


def test_wrong_bytes_are_refused_against_the_published_hash(server, tmp_path):
    server.plan = ["wrong-bytes"]
    with pytest.raises(DownloadError, match=f"expected {SHA256}: the publisher may have changed"):
        fetch(server, tmp_path / "model.pth", expected_sha256=SHA256)
    assert not list(tmp_path.iterdir())
    fetch(server, tmp_path / "model.pth", expected_sha256=SHA256)


def test_wrong_bytes_are_refused_against_the_first_download(server, tmp_path):
    fetch(server, tmp_path / "model.pth")
    (tmp_path / "model.pth").unlink()
    server.plan = ["wrong-bytes"]
    with pytest.raises(DownloadError, match=f"expected {SHA256}"):
        fetch(server, tmp_path / "model.pth")


def test_missing_file_is_not_tried_again(server, tmp_path):
    server.plan = [404]
    with pytest.raises(DownloadError, match=r"the server answers 404 Not Found; check the address"):
        fetch(server, tmp_path / "model.pth")
    assert len(server.requests) == 1


def test_faults_of_the_server_are_tried_again_with_longer_pauses(server, tmp_path, monkeypatch):
    pauses = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.plan = [500, 502, 429]
    fetch(server, tmp_path / "model.pth", attempts=4)
    assert pauses == [0.01, 0.02, 0.04]


def test_length_that_is_not_told_is_refused(server, tmp_path):
    server.plan = ["no-length"]
    with pytest.raises(DownloadError, match="does not say how long the file is"):
        fetch(server, tmp_path / "model.pth")


def test_nobody_listens(tmp_path):
    with pytest.raises(DownloadError, match=r"cannot download http://127\.0\.0\.1:9/x: .*refused"):
        download("http://127.0.0.1:9/x", tmp_path / "x", attempts=2, wait=0.01)


def test_other_kinds_of_address_are_refused(tmp_path):
    with pytest.raises(DownloadError, match="expected an http or https address"):
        download("file:///etc/hostname", tmp_path / "x")


def test_damaged_record_says_what_to_do(server, tmp_path):
    fetch(server, tmp_path / "model.pth")
    (tmp_path / "model.pth.source.json").write_text("{")
    with pytest.raises(DownloadError, match=r"source\.json is damaged: delete it"):
        fetch(server, tmp_path / "model.pth")


def test_first_download_is_said_and_no_later_one(server, tmp_path, capsys):
    path = tmp_path / "model.pth"
    fetch(server, path)
    assert f"{path}: first download, recorded: {SHA256}" in capsys.readouterr().out
    fetch(server, path)
    path.unlink()
    fetch(server, path)
    fetch(server, tmp_path / "known.pth", expected_sha256=SHA256)
    assert "first download" not in capsys.readouterr().out


def test_file_that_was_put_there_by_hand_is_recorded(server, tmp_path, capsys):
    path = tmp_path / "model.pth"
    path.write_bytes(CONTENT)
    assert fetch(server, path).sha256 == SHA256
    assert not server.requests and "first download, recorded" in capsys.readouterr().out


@pytest.mark.parametrize("fault", [404, 403, 503, "no-length", "wrong-bytes", "truncate"])
def test_archive_is_asked_when_the_first_address_fails(fault, server, archive, tmp_path, capsys):
    server.plan, server.honours_range = [fault] * 9, False
    path = tmp_path / "model.pth"
    source = fetch(server, path, archive=archive.url, expected_sha256=SHA256)
    assert path.read_bytes() == CONTENT and source.url == archive.url
    assert f"trying {archive.url}" in capsys.readouterr().out
    record = json.loads((tmp_path / "model.pth.source.json").read_text())
    assert record["url"] == archive.url
    again = len(server.requests), len(archive.requests)
    assert fetch(server, path, archive=archive.url) == source
    assert (len(server.requests), len(archive.requests)) == again


def test_archive_is_left_alone_when_the_first_address_has_the_file(server, archive, tmp_path):
    fetch(server, tmp_path / "model.pth", archive=archive.url)
    assert not archive.requests


def test_archive_is_held_to_the_first_download(server, archive, tmp_path):
    """Whichever address it came from, the file stays the one that was recorded."""
    path = tmp_path / "model.pth"
    fetch(server, path, archive=archive.url)
    path.unlink()
    server.plan, archive.content = [404], CONTENT[::-1]
    with pytest.raises(DownloadError, match=f"404 Not Found.*; and what .*expected {SHA256}"):
        fetch(server, path, archive=archive.url)
    server.plan, archive.content = [404], CONTENT
    fetch(server, path, archive=archive.url)
    assert path.read_bytes() == CONTENT


def test_both_fail(server, archive, tmp_path):
    server.plan, archive.plan = [404], [410]
    with pytest.raises(DownloadError, match="404 Not Found; .*; and .* 410 Gone; check"):
        fetch(server, tmp_path / "model.pth", archive=archive.url)


def test_each_address_goes_on_with_its_own_part(server, archive, tmp_path):
    path = tmp_path / "model.pth"
    server.plan, archive.plan = ["truncate", 404], ["truncate", 404]
    with pytest.raises(DownloadError):
        fetch(server, path, archive=archive.url)
    server.plan = [404]
    fetch(server, path, archive=archive.url)
    assert path.read_bytes() == CONTENT
    assert ranges(archive)[-1] == f"bytes={len(CONTENT) // 2}-"
    assert {file.name for file in tmp_path.iterdir()} == {"model.pth", "model.pth.source.json"}


def test_archive_of_another_kind_of_address_is_refused(server, tmp_path):
    with pytest.raises(DownloadError, match="'ftp://x/y': expected an http or https address"):
        fetch(server, tmp_path / "x", archive="ftp://x/y")
    assert not server.requests
