"""What an archive may do to a store, a disk and a memory: attacks on purpose, and single flipped bits."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stats._cells import finished
from unibench.cli import main
from unibench.errors import UsageError
from unibench.registry import ROOT
from unibench.store import cells_below, export, import_, index, verify
from unibench.store.data import MIB
from unibench.store.index import identity_fault, key_of

IDENTITY = {"schema": 2, "model": "m"}
KEY = key_of(IDENTITY)
CELL = f"m/t/vanilla/{KEY}"
Add = Callable[..., None]


class Zeros(io.RawIOBase):
    """As many zeros as are asked for."""

    def read(self, size: int = -1) -> bytes:
        return bytes(size)


def pack(file: Path, fill: Callable[[tarfile.TarFile, Add], None]) -> Path:
    """An archive of one good cell and what ``fill`` adds."""
    with tarfile.open(file, "w:gz", compresslevel=1) as archive:

        def add(
            name: str,
            content: bytes = b"",
            *,
            kind: bytes = tarfile.REGTYPE,
            link: str = "",
            size: int = 0,
        ) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, size or len(content)
            archive.addfile(info, Zeros() if size else io.BytesIO(content))

        add(f"{CELL}/identity.json", json.dumps(IDENTITY).encode())
        fill(archive, add)
    return file


def sparse(archive: tarfile.TarFile, add: Add, name: str) -> None:
    """A member of 50 GiB that takes a few bytes of the archive."""
    info = tarfile.TarInfo(name)
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": name,
        "GNU.sparse.realsize": str(50 << 30),
    }
    content = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def headers(archive: tarfile.TarFile, kind: bytes, content: bytes, count: int) -> None:
    """Headers that precede a member, each of which a reader keeps."""
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, len(content)
    whole = info.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % 512)
    assert archive.fileobj is not None
    for _ in range(count):
        archive.fileobj.write(whole)
        archive.offset += len(whole)


def for_all(archive: tarfile.TarFile, add: Add) -> None:
    """A header that is about every member that follows."""
    headers(archive, tarfile.XGLTYPE, COMMENT, 1)
    add("m/x")


def old_sparse(archive: tarfile.TarFile) -> None:
    """A sparse member whose map goes on for 100 MiB."""
    info = tarfile.TarInfo("m/x")
    info.type = tarfile.GNUTYPE_SPARSE
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[482] = 1  # more follows
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    more = b"%011o\0%011o\0" % (512, 1) * 21 + b"\1" + bytes(7)
    assert archive.fileobj is not None
    for part in (bytes(head), *[more * 2000] * 100):
        archive.fileobj.write(part)
        archive.offset += len(part)


COMMENT = b"%d comment=some text\n" % (len(b" comment=some text\n") + 2)
REFUSED: dict[str, tuple[Callable[[tarfile.TarFile, Add], None], str]] = {
    "absolute": (lambda tar, add: add("/tmp/x/run.log", b"x"), "leads out of the store"),
    "parents": (lambda tar, add: add(f"../{CELL}/run.log", b"x"), "leads out of the store"),
    "parents inside": (lambda tar, add: add("a/../../run.log", b"x"), "leads out of the store"),
    "symbolic link": (lambda tar, add: add(f"{CELL}/run.log", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a link"),
    "hard link": (lambda tar, add: add(f"{CELL}/run.log", kind=tarfile.LNKTYPE, link="/etc/passwd"), "is a link"),
    "pipe": (lambda tar, add: add(f"{CELL}/run.log", kind=tarfile.FIFOTYPE), "no plain file"),
    "device": (lambda tar, add: add(f"{CELL}/run.log", kind=tarfile.CHRTYPE), "no plain file"),
    "newline": (lambda tar, add: add(f"{CELL}\nx/run.log", b"x"), "signs in its name"),
    "escape": (lambda tar, add: add(f"m/\x1b[31m/v/{KEY}/run.log", b"x"), r"'m/\x1b[31m/v/"),
    "tag": (lambda tar, add: add(f"m/<script>/v/{KEY}/run.log", b"x"), "signs in its name"),
    "direction": (lambda tar, add: add(f"m/\u202e/v/{KEY}/run.log", b"x"), r"\u202e"),
    "no UTF-8": (lambda tar, add: add(f"m/\udcff/v/{KEY}/run.log", b"x"), "not named in UTF-8"),
    "long": (lambda tar, add: add(f"m/{'x' * 300}/v/{KEY}/run.log", b"x"), "longer name"),
    "deep": (lambda tar, add: add(f"{'x/' * 60}{KEY}/run.log", b"x"), "longer name"),
    "twice": (lambda tar, add: add(f"{CELL}/identity.json", b"{}"), "is there twice"),
    "large": (lambda tar, add: add(f"{CELL}/config.yaml", size=2 * MIB), "at most 1 MiB"),
    "sparse": (lambda tar, add: sparse(tar, add, f"{CELL}/run.log"), "is sparse"),
    "endless map": (lambda tar, add: old_sparse(tar), "headers of a member take more than 256 KiB"),
    "header for all": (lambda tar, add: for_all(tar, add), "headers for all members"),
    "headers in a row": (lambda tar, add: headers(tar, tarfile.XHDTYPE, COMMENT, 5000), "more than 256 KiB"),
    "names in a row": (lambda tar, add: headers(tar, tarfile.GNUTYPE_LONGNAME, b"a" * 9000, 900), "more than 256 KiB"),
    "within a cell": (lambda tar, add: add(f"{CELL}/a/{KEY}/identity.json", b"{}"), "inside of another cell"),
}  # fmt: skip


@pytest.mark.parametrize("attack", REFUSED)
def test_an_attack_is_refused_by_name_and_the_store_stays_as_it_was(
    attack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill, reason = REFUSED[attack]
    file = pack(tmp_path / "evil.tar.gz", fill)
    assert main(["store", "import", str(file), str(tmp_path / "store")]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1 and said[:-1].isprintable()
    assert list((tmp_path / "store").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.tar.gz", "store"]


@pytest.mark.parametrize(
    ("identity", "folder", "reason"),
    [
        (IDENTITY, "0123456789abcdef", f"hashes to {KEY}"),
        ({**IDENTITY, "model": "other"}, KEY, "not to the folder's name"),
        ({"schema": 99}, key_of({"schema": 99}), "schema 99; this unibench reads 2"),
        ({"schema": "\x1b[31m"}, key_of({"schema": "\x1b[31m"}), r"schema \x1b[31m"),
        ({}, key_of({}), "schema None"),
        ([], KEY, "missing or cannot be read"),
        (None, KEY, "missing or cannot be read"),
    ],
)
def test_a_folder_that_is_not_the_cell_it_says_is_left_out_by_name(
    identity: object, folder: str, reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(archive: tarfile.TarFile, add: Add) -> None:
        add(f"m/u/vanilla/{folder}/run.log", b"x")
        if identity is not None:
            add(f"m/u/vanilla/{folder}/identity.json", json.dumps(identity).encode())

    file = pack(tmp_path / "evil.tar.gz", fill)
    assert main(["store", "import", str(file), str(tmp_path / "store")]) == 1
    said = capsys.readouterr().out
    assert "1 new cells" in said and f"refused: m/u/vanilla/{folder}: " in said and reason in said
    assert [cell.name for cell in cells_below(tmp_path / "store")] == [KEY]


def test_a_cell_that_would_lie_inside_of_one_of_the_store_is_left_out_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = tmp_path / "store"
    assert (
        main(["store", "import", str(pack(tmp_path / "a.tar.gz", lambda *_: None)), str(store)])
        == 0
    )
    content = json.dumps(IDENTITY).encode()
    with tarfile.open(tmp_path / "b.tar.gz", "w:gz") as archive:
        info = tarfile.TarInfo(f"{CELL}/{KEY}/identity.json")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    capsys.readouterr()
    assert main(["store", "import", str(tmp_path / "b.tar.gz"), str(store)]) == 1
    assert "it lies inside of another cell" in capsys.readouterr().out
    assert [path.name for path in (store / CELL).iterdir()] == ["identity.json"]


def test_what_is_no_file_of_a_cell_is_left_out_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("README.md", f"{CELL}/.bashrc", f"{CELL}/claim-0-of-1.0", f"{CELL}/samples-x.jsonl", ".hidden/identity.json")  # fmt: skip

    def fill(archive: tarfile.TarFile, add: Add) -> None:
        for name in names:
            add(name, b"x")
        sparse(archive, add, "m/50GiB")

    file = pack(tmp_path / "a.tar.gz", fill)
    assert main(["store", "import", str(file), str(tmp_path / "store")]) == 0
    assert f"{len(names) + 1} files of no cell left out" in capsys.readouterr().out
    found = [path.name for path in (tmp_path / "store").rglob("*") if path.is_file()]
    assert found == ["identity.json"]


MEASURED = """
import json, os, resource, subprocess, sys, time
store, words, disk = sys.argv[1], sys.argv[2:], 0
ran = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
while ran.poll() is None:
    now = 0
    for place, _, names in os.walk(store):
        for name in names:
            try:
                now += os.lstat(os.path.join(place, name)).st_blocks / 2048
            except FileNotFoundError:
                pass
    disk = max(disk, now)
    time.sleep(0.05)
peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
print(json.dumps([ran.returncode, peak, disk, ran.stderr.read().count(b"\\n")]))
"""


def limited(file: Path, store: Path, *more: str) -> tuple[int, float, float, int]:
    """Exit code, peak memory in MiB, most of the disk in MiB, and lines on standard error, of an
    import that a small process starts: a child inherits the peak of the process that forked it.
    """
    words = [sys.executable, "-m", "unibench", "store", "import", str(file), str(store), *more]
    environment = {**os.environ, "PYTHONPATH": str(ROOT.parent), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", MEASURED, str(store), *words],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    code, peak, disk, lines = json.loads(ran.stdout)
    return code, peak, disk, lines


BOMBS: dict[str, tuple[Callable[[tarfile.TarFile, Add], None], int]] = {
    "1 GiB of zeros as run.log": (lambda tar, add: add(f"{CELL}/run.log", size=1 << 30), 2),
    "a stray member of 2 GiB": (lambda tar, add: add("m/weights.bin", size=2 << 30), 0),
    "more than fits in all": (lambda tar, add: add("m/weights.bin", size=5 << 30), 2),
    "a name of 1 GiB": (lambda tar, add: add("x", kind=tarfile.GNUTYPE_LONGNAME, size=1 << 30), 2),
    "headers of 1 GiB": (lambda tar, add: add("x", kind=tarfile.XHDTYPE, size=1 << 30), 2),
    "many members": (lambda tar, add: [add(f"m/{n}", b"") for n in range(200_000)] and None, 0),
    "50 GiB of nothing": (lambda tar, add: sparse(tar, add, "m/weights.bin"), 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, float, float, int]:
    """What an import of one small cell costs."""
    place = tmp_path_factory.mktemp("good")
    return limited(pack(place / "good.tar.gz", lambda tar, add: None), place / "store")


@pytest.mark.slow
@pytest.mark.parametrize("bomb", BOMBS)
def test_what_is_not_taken_costs_neither_memory_nor_disk(
    bomb: str, tmp_path: Path, good: tuple[int, float, float, int]
) -> None:
    fill, expected = BOMBS[bomb]
    file = pack(tmp_path / "bomb.tar.gz", fill)
    code, peak, disk, lines = limited(file, tmp_path / "store")
    print(f"{bomb}: {peak:.0f} MiB of memory ({good[1]:.0f} without), {disk:.2f} MiB of disk")
    assert code == expected and lines == (code != 0)
    assert peak < good[1] + 20 and disk < 1


def test_many_folders_count_as_what_they_take_of_a_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fill(archive: tarfile.TarFile, add: Add) -> None:
        for number in range(40):
            add(f"{number}/b/c/d/e/f/{KEY}/identity.json", json.dumps(IDENTITY).encode())

    file, store = pack(tmp_path / "a.tar.gz", fill), tmp_path / "store"
    assert main(["store", "import", str(file), str(store), "--max-size=0.001"]) == 2
    assert "unpacks to more than 0.001 GiB" in capsys.readouterr().err
    assert not [place for place in store.rglob("*") if place.is_file()]


@pytest.mark.slow
def test_a_large_cell_takes_its_own_size_on_the_disk_and_no_memory(
    tmp_path: Path, good: tuple[int, float, float, int]
) -> None:
    def fill(archive: tarfile.TarFile, add: Add) -> None:
        for number in range(3):
            add(f"{CELL}/samples-{number}.jsonl", size=200 * MIB)

    file = pack(tmp_path / "large.tar.gz", fill)
    code, peak, disk, _ = limited(file, tmp_path / "store")
    print(f"600 MiB of samples: {peak:.0f} MiB of memory, {disk:.0f} MiB of disk")
    assert code == 0 and peak < good[1] + 20 and 599 < disk < 610
    code, _, disk, lines = limited(file, tmp_path / "other", "--max-size", "0.5")
    assert code == 2 and disk < 520 and lines == 1


def test_a_limit_is_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = pack(tmp_path / "a.tar.gz", lambda tar, add: None)
    for word in ("0", "-1", "nan", "inf"):
        assert main(["store", "import", str(file), str(tmp_path / "s"), f"--max-size={word}"]) == 2
        assert f"--max-size {word}" in capsys.readouterr().err
    assert main(["store", "import", str(file), str(tmp_path / "s"), "--max-size", "0.001"]) == 0


def contents(store: Path) -> dict[str, bytes]:
    return {str(file.relative_to(store)): file.read_bytes() for file in sorted(store.rglob("*")) if file.is_file()}  # fmt: skip


@pytest.mark.parametrize("flips", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_an_archive_never_enters(tmp_path: Path, flips: int) -> None:
    """A few bits mean nothing: the time in gzip's header, the length of a code that is not used. Any
    other one is found by the checksum or before.
    """
    finished(tmp_path / "a", [1.0, 0.0], "method=vanilla", "task.limit=2")
    export(tmp_path / "a", tmp_path / "a.tar.gz")
    whole = (tmp_path / "a.tar.gz").read_bytes()
    import_(tmp_path / "a.tar.gz", tmp_path / "good")
    good, step = contents(tmp_path / "good"), max(1, 8 * len(whole) // flips)
    refused = 0
    for number, bit in enumerate(range(0, 8 * len(whole), step)):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b.tar.gz").write_bytes(flipped)
        try:
            import_(tmp_path / "b.tar.gz", tmp_path / "b" / str(number))
        except UsageError:
            refused += 1
        else:
            assert contents(tmp_path / "b" / str(number)) == good, bit
    assert refused > 0.95 * flips


def test_the_committed_results_enter(tmp_path: Path) -> None:
    file = ROOT.parent / "results" / "synthvqa" / "cells.tar.gz"
    merged = import_(file, tmp_path)
    assert (merged.new, merged.refused, merged.strays) == (75, [], 0)
    assert not any(map(identity_fault, cells_below(tmp_path)))


KILLED = """
import os, signal, sys
from pathlib import Path
from unibench.store import archive
def stop(*_):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(archive, sys.argv[3], stop)
archive.import_(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("where", ["identity_fault", "_move"])
def test_a_killed_import_leaves_nothing_that_a_reader_sees(where: str, tmp_path: Path) -> None:
    finished(tmp_path / "a", [1.0, 0.0], "method=vanilla", "task.limit=2")
    export(tmp_path / "a", tmp_path / "a.tar.gz")
    words = [sys.executable, "-c", KILLED, tmp_path / "a.tar.gz", tmp_path / "b", where]
    ran = subprocess.run(words, env={**os.environ, "PYTHONPATH": str(ROOT.parent)})
    assert ran.returncode == -signal.SIGKILL
    assert index(tmp_path / "b") == [] and len(list((tmp_path / "b").iterdir())) == 1
    assert ["left by a killed command" in problem.what for problem in verify(tmp_path / "b")] == [
        True
    ]
    assert import_(tmp_path / "a.tar.gz", tmp_path / "b").new == 1
    assert verify(tmp_path / "b") == []
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["tiny_qwen2_5_vl"]


def test_a_torn_archive_is_refused(tmp_path: Path) -> None:
    finished(tmp_path / "a", [1.0, 0.0], "method=vanilla", "task.limit=2")
    export(tmp_path / "a", tmp_path / "a.tar.gz")
    whole = (tmp_path / "a.tar.gz").read_bytes()
    plain = gzip.decompress(whole)
    for name, content in (
        ("cut", whole[:-9]),
        ("half", whole[: len(whole) // 2]),
        ("plain, cut in a file", plain[:3000]),
        ("empty", b""),
        ("another kind", b"BZh91AY&SY"),
    ):
        (tmp_path / "b.tar.gz").write_bytes(content)
        with pytest.raises(UsageError, match="nothing was imported"):
            import_(tmp_path / "b.tar.gz", tmp_path / "b" / name)
    (tmp_path / "b.tar.gz").write_bytes(plain)
    assert import_(tmp_path / "b.tar.gz", tmp_path / "b").new == 1
