"""Large files over HTTP: resumed, retried, checked, whole or absent."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from e2mc.progress import Progress
from e2mc.state import sha256, write_json

MEBIBYTE = 2**20


class DownloadError(OSError):
    """A file that could not be had, or is not the one expected, in one sentence."""


@dataclass(frozen=True)
class Source:
    """Where a file came from and what it was; kept beside it in ``<name>.source.json``."""

    url: str
    size: int
    sha256: str


def download(
    url: str,
    path: Path,
    *,
    archive: str | None = None,
    expected_sha256: str | None = None,
    timeout: float = 30.0,
    attempts: int = 6,
    wait: float = 1.0,
) -> Source:
    """Fetches a file unless it is there already, and checks it.

    What has arrived stays in ``<path>.part``; a later call goes on from there where the server
    honours Range, and begins anew where it does not. Address, size and SHA-256 are written to
    ``<path>.source.json``: a file without a published SHA-256 is checked against its first download
    ever after, also when it was deleted in between, and that first time is said aloud.

    Args:
        url: http or https address.
        path: file to write.
        archive: a second address, which is asked when the first has no such file, gives up, or
            sends another file than expected.
        expected_sha256: the published SHA-256, if there is one.
        timeout: seconds without a byte after which the connection counts as stalled.
        attempts: how many times in a row to try without getting further, at least 1.
        wait: seconds before the second attempt; doubled before each further one, at most a minute.

    Returns:
        Address, size and SHA-256 of the file.

    Raises:
        DownloadError: if no server has such a file, all gave up, or their file has another SHA-256
            than expected.
    """
    path = Path(path)
    addresses = [url] if archive is None else [url, archive]
    for address in addresses:
        if urlsplit(address).scheme not in ("http", "https"):
            raise DownloadError(f"cannot download {address!r}: expected an http or https address")
    record = path.with_name(path.name + ".source.json")
    recorded = _recorded(record, addresses)
    expected = expected_sha256 or (recorded.sha256 if recorded else None)
    if path.exists():
        found = sha256(path)
        source = Source(recorded.url if recorded else url, path.stat().st_size, found)
        _check(source, expected, str(path), "delete it to have it downloaded again")
    else:
        part, source = _fetch_any(path, addresses, expected, timeout, attempts, wait)
    if recorded != source:
        if expected is None:
            print(f"{path}: first download, recorded: {source.sha256}", flush=True)
        write_json(asdict(source), record)
    if not path.exists():
        part.become(path)
    return source


def _fetch_any(
    path: Path,
    addresses: list[str],
    expected: str | None,
    timeout: float,
    attempts: int,
    wait: float,
) -> tuple[_Part, Source]:
    """The file from the first address that has it, or one error with what each of them says."""
    errors: list[str] = []
    # what has arrived from one address is no beginning of what the other sends
    parts = [
        _Part(path, address, timeout, ".archive" if number else "")
        for number, address in enumerate(addresses)
    ]
    for number, (address, part) in enumerate(zip(addresses, parts, strict=True)):
        try:
            part.fetch(attempts, wait)
            source = Source(address, part.size, sha256(part.path))
            advice = "the publisher may have changed the file, or something on the way does"
            try:
                _check(source, expected, f"what {address} sends", advice)
            except DownloadError:
                part.discard()
                raise
            for other in parts:
                if other is not part:
                    other.discard()
            return part, source
        except DownloadError as error:
            errors.append(str(error))
            if number + 1 < len(addresses):
                print(f"{error}; trying {addresses[number + 1]}", flush=True)
    raise DownloadError("; and ".join(errors))


def _check(source: Source, expected: str | None, what: str, advice: str) -> None:
    if expected is not None and source.sha256 != expected:
        raise DownloadError(
            f"{what} ({source.size} bytes) has SHA-256 {source.sha256}, expected {expected}: "
            f"{advice}"
        )


class _Retry(Exception):
    """A fault that may pass; the message says which."""


class _Part:
    """What has arrived of a file so far, with a note of what it is the beginning of."""

    def __init__(self, path: Path, url: str, timeout: float, suffix: str = "") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.url, self.timeout = url, timeout
        self.path = path.with_name(f"{path.name}{suffix}.part")
        self.note = path.with_name(f"{path.name}{suffix}.part.json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def become(self, path: Path) -> None:
        self.path.replace(path)
        self.note.unlink(missing_ok=True)

    def fetch(self, attempts: int, wait: float) -> None:
        """Fetches what is missing, trying again after every fault that may pass."""
        furthest, failures = self.size, 0
        while True:
            try:
                return self._transfer()
            except _Retry as fault:
                failures = 1 if self.size > furthest else failures + 1
                furthest = max(furthest, self.size)
                if failures >= attempts:
                    raise DownloadError(
                        f"cannot download {self.url}: {fault}; tried {failures} times without "
                        f"getting beyond byte {furthest}, start again to go on from there"
                    ) from fault
                pause = min(60.0, wait * 2 ** (failures - 1))
                print(f"{self.url}: {fault}; trying again in {pause:g} s", flush=True)
                time.sleep(pause)

    def _transfer(self) -> None:
        """One connection; raises _Retry unless the part is the whole file afterwards."""
        validator = self._validator()
        have = self.size
        response = self._ask(have, validator)
        if response is None:
            return
        with response:
            offset, size = _extent(response)
            if offset not in (0, have):
                raise _Retry(f"the server sends from byte {offset}, asked for {have}")
            if size is None and not response.chunked:
                raise DownloadError(
                    f"cannot download {self.url}: the server does not say how long the file is, "
                    "so that a truncated one could not be told; fetch it by other means"
                )
            if offset == 0:
                headers = response.headers
                validator = headers.get("ETag") or headers.get("Last-Modified")
                write_json({"url": self.url, "validator": validator}, self.note)
            self._append(response, offset, size)
        if size is not None and self.size != size:
            raise _Retry(f"the connection ended at byte {self.size} of {size}")

    def _validator(self) -> str | None:
        """The ETag or date of the file that the part belongs to; discards a part of another."""
        try:
            note = json.loads(self.note.read_text())
        except (FileNotFoundError, ValueError):
            note = {}
        if note.get("url") != self.url:
            self.discard()
        return note.get("validator")

    def _ask(self, offset: int, validator: str | None) -> http.client.HTTPResponse | None:
        """The server's answer from ``offset`` on; None when the part is the whole file."""
        # compressed bytes would have other offsets and another length
        headers = {"Accept-Encoding": "identity", "User-Agent": "e2mc"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
            if validator and not validator.startswith("W/"):
                headers["If-Range"] = validator
        request = urllib.request.Request(self.url, headers=headers)
        try:
            return urllib.request.urlopen(request, timeout=self.timeout)
        except urllib.error.HTTPError as error:
            if error.code == 416 and offset:
                if _size_of_range(error) == offset:
                    return None
                self.discard()
                raise _Retry(f"{offset} bytes are here, more than the server has") from error
            if error.code in (408, 425, 429) or error.code >= 500:
                raise _Retry(f"the server answers {error.code} {error.reason}") from error
            raise DownloadError(
                f"cannot download {self.url}: the server answers {error.code} {error.reason}; "
                "check the address"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            raise _Retry(_reason(error)) from error

    def _append(self, response: http.client.HTTPResponse, offset: int, size: int | None) -> None:
        progress = None
        if size:
            name = Path(urlsplit(self.url).path).name
            blocks, done = -(-size // MEBIBYTE), offset // MEBIBYTE
            progress = Progress(f"downloading {name}", blocks, done=done, unit="MiB")
        with self.path.open("r+b" if offset else "wb") as file:
            file.seek(offset)
            try:
                while block := response.read1(MEBIBYTE):
                    file.write(block)
                    while progress and progress.done < -(-file.tell() // MEBIBYTE):
                        progress.step()
            except (OSError, http.client.HTTPException) as error:
                if getattr(error, "errno", None) == errno.ENOSPC:
                    raise
                raise _Retry(_reason(error)) from error
            finally:
                file.flush()
                os.fsync(file.fileno())


def _extent(response: http.client.HTTPResponse) -> tuple[int, int | None]:
    """Where the answer begins in the file, and the whole file's size if the server says it."""
    if response.status == 206:
        begin = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
        return (int(begin[1]) if begin else -1), _size_of_range(response)
    length = response.headers.get("Content-Length")
    return 0, None if length is None else int(length)


def _size_of_range(answer: Any) -> int | None:
    """The whole file's size in a Content-Range header: ``bytes 5-9/10`` or ``bytes */10``."""
    found = re.search(r"/(\d+)$", answer.headers.get("Content-Range", ""))
    return int(found[1]) if found else None


def _reason(error: Exception) -> str:
    error = getattr(error, "reason", error)
    if isinstance(error, TimeoutError):
        return "the connection stalled"
    return str(error) or type(error).__name__


def _recorded(record: Path, addresses: list[str]) -> Source | None:
    """What an earlier download from one of the addresses wrote, if there was one."""
    try:
        found = Source(**json.loads(record.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError) as error:
        raise DownloadError(
            f"{record} is damaged: delete it to have the file taken as it is now"
        ) from error
    return found if found.url in addresses else None
