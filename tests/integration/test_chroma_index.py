"""The vector index over a real Chroma: in a folder, and over HTTP to `chroma run`."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from baton.archive.chroma_index import ChromaIndex
from baton.archive.vector_index import Match, VectorRow
from baton.errors import (
    ArchiveBusyError,
    IndexCorruptError,
    IndexModelError,
    IndexUnavailableError,
    InvalidInputError,
)
from baton.settings import ClientSettings
from chroma_server import ChromaServer
from vectors import rows_of, unit_vectors
from waiting import until

MODEL = "model@1"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "chroma"


@pytest.fixture
def open_index():
    """Makes indexes, and closes them after the test."""
    with contextlib.ExitStack() as stack:

        def make(model=MODEL, **options):
            made = ChromaIndex(lambda: model, **options)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture(params=["folder", "server"])
def place(request, folder):
    """Where the index is, as its constructor takes it."""
    pytest.importorskip("chromadb")
    if request.param == "folder":
        return {"folder": folder}
    return {"url": request.getfixturevalue("chroma_server").url}


@pytest.fixture
def index(open_index, place):
    made = open_index(**place)
    made.clear()
    return made


def test_an_index_finds_what_was_put(index):
    """The nearest rows, nearest first, of all shelves or of those that are asked for."""
    told = []
    rows = rows_of("a", 700) + rows_of("b", 50, seed=1)
    index.put(rows, progress=told.append)
    vector = rows[3].vector

    found = index.find(vector, 5)
    assert found[0] == Match("a.3", "a", pytest.approx(0, abs=1e-5))
    assert [match.distance for match in found] == sorted(match.distance for match in found)
    assert len(found) == 5
    expected = 1 - float(vector @ rows[700].vector)
    by_id = {match.row_id: match for match in index.find(vector, 50, shelves=["b", "no such"])}
    assert set(by_id) == {f"b.{i}" for i in range(50)}
    assert by_id["b.0"].distance == pytest.approx(expected, abs=1e-3)
    assert index.find(vector, 5, shelves=[]) == []
    assert index.count() == 750
    assert told == [500, 750]


def test_similarities_are_exact(index):
    """Of the rows that are asked for, as many as there may be; what is not there is left out."""
    rows = rows_of("a", 700)
    index.put(rows)
    vector = 3 * unit_vectors(1, seed=9)[0]
    found = index.similarities(vector, {row.row_id for row in rows} | {"a.no such"})
    expected = {row.row_id: float(row.vector @ vector) / 3 for row in rows}
    assert found == pytest.approx(expected, abs=1e-5)
    assert index.similarities(vector, []) == {}


def test_a_row_put_again_replaces_its_vector(index):
    """Idempotent, and no silent no-op as Chroma's `add`."""
    old, new = unit_vectors(2)
    for vector in (old, old, new):
        index.put([VectorRow("a.1", "a", vector)])
    assert index.count() == 1
    assert index.find(new, 1)[0].distance == pytest.approx(0, abs=1e-5)


def test_rows_go_by_id_and_by_shelf(index):
    """What is not there is skipped; other shelves stay."""
    index.put(rows_of("a", 20) + rows_of("b", 20, seed=1))
    index.delete(["a.0", "a.1", "never.was"])
    assert index.ids("a") == {f"a.{i}" for i in range(2, 20)}
    index.delete_shelf("a")
    index.delete_shelf("a")
    assert index.ids("a") == set()
    assert index.count() == 20
    assert index.check().healthy


def test_an_empty_index_answers(index):
    """Before the first row nothing is found, and nothing is wrong."""
    assert index.find(unit_vectors(1)[0], 3) == []
    assert index.count() == 0
    assert index.ids("a") == set()
    index.delete(["a.1"])
    health = index.check()
    assert (health.rows, health.healthy) == (0, True)


def test_what_was_put_is_there_after_closing(index):
    """A closed index opens again at the next call."""
    index.put(rows_of("a", 5))
    index.close()
    index.close()
    assert index.count() == 5


def test_an_index_of_another_model_is_refused_until_it_is_cleared(index, open_index, place):
    """Vectors of two models are never compared."""
    index.put(rows_of("a", 5))
    index.close()
    other = open_index("other@2", **place)
    with pytest.raises(IndexModelError, match=r"of model model@1, this is other@2.*reindex"):
        other.put(rows_of("a", 1))
    with pytest.raises(IndexModelError):
        other.find(unit_vectors(1)[0], 1)
    health = other.check()
    assert (health.healthy, health.rebuild) == (False, True)
    other.clear()
    other.put([VectorRow("a.1", "a", unit_vectors(1, dimensions=7)[0])])
    assert other.count() == 1
    with pytest.raises(IndexModelError, match="7 dimensions"):
        other.put(rows_of("b", 1))


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param([VectorRow("a", "s", np.full(3, np.nan, np.float32))], id="not a number"),
        pytest.param(rows_of("a", 2) + rows_of("a", 1), id="an id twice"),
        pytest.param([VectorRow("", "s", unit_vectors(1)[0])], id="no id"),
        pytest.param([VectorRow("a", "s", unit_vectors(1)[0][:0])], id="no vector"),
    ],
)
def test_bad_rows_are_refused_before_anything_is_opened(open_index, folder, rows):
    """A batch with one of them stores nothing."""
    with pytest.raises(InvalidInputError):
        open_index(folder=folder).put(rows)
    assert not folder.exists()


def test_the_folder_is_private_and_holds_no_text(open_index, folder):
    """Chroma is given ids and vectors only, and is told to report nothing to its makers."""
    open_index(folder=folder).put(rows_of("shelf-7", 3))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert b"shelf-7" in (folder / "chroma.sqlite3").read_bytes()


def test_two_processes_cannot_have_one_folder(open_index, folder):
    """The second is told who has it; it may once that one is gone, even if it was killed."""
    code = (
        "import sys, time; from pathlib import Path\n"
        "from baton.archive.chroma_index import ChromaIndex\n"
        "index = ChromaIndex(lambda: 'model@1', folder=Path(sys.argv[1]))\n"
        "print(index.count(), flush=True); time.sleep(600)\n"
    )
    owner = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert owner.stdout.readline() == "0\n"
        index = open_index(folder=folder)
        with pytest.raises(
            ArchiveBusyError, match=f"process {owner.pid} on {socket.gethostname()}"
        ):
            index.put(rows_of("a", 1))
        assert "in use" in index.check().reason
    finally:
        owner.kill()
        owner.wait()
        owner.stdout.close()

    def put():
        with contextlib.suppress(ArchiveBusyError):
            index.put(rows_of("a", 1))
            return True

    until(put, what="the killed owner's folder let go")


def test_a_forked_child_opens_the_index_anew(folder):
    """A child of a process that used the index neither hangs nor disturbs its parent's."""
    code = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from vectors import rows_of
from baton.archive.chroma_index import ChromaIndex
from baton.errors import ArchiveBusyError
index = ChromaIndex(lambda: "model@1", folder=Path(sys.argv[1]))
index.put(rows_of("a", 3))
def in_child(work):
    child = os.fork()
    if child == 0:
        os._exit(work())
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
def busy():
    try:
        return index.count()
    except ArchiveBusyError:
        return 42
assert in_child(busy) == 42
assert index.count() == 3
index.close()
def write():
    index.put(rows_of("b", 4))
    return index.count()
assert in_child(write) == 7
from waiting import until
assert until(lambda: busy() == 7 or None)
"""
    subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(folder), str(Path(__file__).parents[1])],
        check=True,
        timeout=120,
    )


def test_a_chroma_that_hangs_is_ended_at_the_deadline(open_index, folder):
    """The call fails in time, as one that may be repeated; the next one works."""
    index = open_index(folder=folder, timeout_seconds=8)
    index.put(rows_of("a", 3))
    os.kill(index._served.process.pid, signal.SIGSTOP)
    with pytest.raises(IndexUnavailableError, match=r"did not count \(no answer in 8 s\)"):
        index.count()
    patient = open_index(folder=folder)
    assert patient.count() == 3


def test_a_hanging_call_ends_where_nobody_is_left_to_end_it():
    """Its process lets go of everything soon after its deadline, though its parent was killed."""
    code = (
        "import contextlib, sys\n"
        "from baton.archive.chroma_index import ChromaIndex\n"
        "from baton.errors import IndexUnavailableError\n"
        "for seconds in 3, 20, 60:\n"  # on a busy machine it takes longer to begin
        "    with contextlib.suppress(IndexUnavailableError):\n"
        "        index = ChromaIndex(lambda: 'm', url=sys.argv[1], timeout_seconds=seconds)\n"
        "        index.count()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(90)
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        parent = subprocess.Popen([sys.executable, "-c", code, url])
        try:
            asked, _ = silent.accept()
        finally:
            parent.kill()
            parent.wait()
        with asked:
            asked.settimeout(90)
            while asked.recv(4096):
                pass


def test_a_server_that_never_answers_is_given_up(open_index):
    """Chroma's own client would wait for ever."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = open_index(url=f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_seconds=3)
        with pytest.raises(IndexUnavailableError, match="no answer in 3 s"):
            index.count()
        assert not index.check().healthy


def test_a_server_that_was_away_is_found_again(open_index, embedder, tmp_path):
    """While it is away calls fail as such; what it had is there afterwards."""
    server = ChromaServer(tmp_path)
    server.start()
    try:
        index = open_index(url=server.url)
        index.put(rows_of("a", 3))
        server.stop(signal.SIGKILL)
        with pytest.raises(IndexUnavailableError, match="nothing of the archive is lost"):
            index.find(unit_vectors(1)[0], 1)
        server.start()
        assert index.ids("a") == {"a.0", "a.1", "a.2"}
    finally:
        server.stop()


def test_another_client_that_clears_a_server_is_noticed(open_index, chroma_server):
    """A collection that was made anew under us is found."""
    ours, theirs = (open_index(url=chroma_server.url) for _ in range(2))
    ours.clear()
    ours.put(rows_of("a", 3))
    theirs.clear()
    assert ours.count() == 0
    ours.put(rows_of("b", 2))
    assert theirs.count() == 2


def test_a_damaged_header_is_told_and_mended_by_clearing(open_index, folder):
    """SQLite's file without its header cannot be read; the rows can be put again."""
    index = open_index(folder=folder)
    index.put(rows_of("a", 10))
    index.close()
    with (folder / "chroma.sqlite3").open("r+b") as file:
        file.write(b"\xff" * 64)
    with pytest.raises(IndexCorruptError, match=r"not a database.*reindex"):
        index.count()
    health = index.check()
    assert (health.rows, health.healthy, health.rebuild) == (None, False, True)
    index.clear()
    index.put(rows_of("a", 10))
    assert index.check().healthy


def test_a_lost_graph_is_told_and_mended_by_clearing(open_index, folder):
    """Without its HNSW folder Chroma finds a few rows of all, and calls it success."""
    index = open_index(folder=folder)
    rows = rows_of("a", 1_500)
    index.put(rows)
    index.close()
    (graph,) = [path for path in folder.iterdir() if path.is_dir()]
    shutil.rmtree(graph)
    health = index.check()
    assert (health.rows, health.healthy, health.rebuild) == (1_500, False, True)
    index.clear()
    index.put(rows)
    assert index.check().healthy
    assert index.count() == 1_500


def test_a_damaged_graph_is_told(open_index, folder):
    """Its files hold something else than a graph."""
    index = open_index(folder=folder)
    index.put(rows_of("a", 1_500))
    index.close()
    (graph,) = [path for path in folder.iterdir() if path.is_dir()]
    for file in graph.glob("*.bin"):
        file.write_bytes(b"\xff" * 100)
    health = index.check()
    assert (health.healthy, health.rebuild) == (False, True)


def test_nothing_is_written_to_a_disk_without_room(open_index, folder):
    """Chroma is not asked to: on a full disk it hangs. What there is can still be read."""
    index = open_index(folder=folder)
    index.put(rows_of("a", 3))
    index.close()
    cramped = open_index(folder=folder, min_free_bytes=1 << 60)
    with pytest.raises(IndexUnavailableError, match="takes no writes"):
        cramped.put(rows_of("b", 1))
    with pytest.raises(IndexUnavailableError, match="takes no writes"):
        cramped.delete_shelf("a")
    assert cramped.count() == 3


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 12 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    mounted = subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)],
        capture_output=True,
        check=False,
    ) if mount and unmount else None  # fmt: skip
    if mounted is None or mounted.returncode:
        pytest.skip("this user may not mount a file system")
    yield disk
    subprocess.run([unmount, "--lazy", str(disk)], check=True)


def test_a_disk_that_fills_up_stops_no_call_for_ever(open_index, small_disk):
    """Puts and deletes fail within their deadline, and work once there is room."""
    folder = small_disk / "chroma"
    index = open_index(folder=folder, timeout_seconds=10, min_free_bytes=0)
    index.put(rows_of("kept", 20))
    filler = small_disk / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(65_536))
    begun_at = time.monotonic()
    with pytest.raises((IndexUnavailableError, IndexCorruptError)):
        index.put(rows_of("more", 500))
    with contextlib.suppress(IndexUnavailableError, IndexCorruptError):
        index.delete_shelf("kept")
        pytest.fail("a delete was said to be done on a full disk")
    assert time.monotonic() - begun_at < 120
    filler.unlink()
    assert index.ids("kept") == {f"kept.{i}" for i in range(20)}
    index.put(rows_of("kept", 20))
    assert index.check().healthy


def test_the_settings_choose_a_folder_or_a_server(tmp_path):
    """Without a server's URL, the folder `archive/chroma` of the state folder."""
    embedded = ChromaIndex.from_settings(ClientSettings(state_dir=tmp_path), lambda: MODEL)
    assert str(tmp_path / "archive" / "chroma") in repr(embedded)
    remote = ChromaIndex.from_settings(
        ClientSettings(chroma_url="http://chroma:8000"), lambda: MODEL
    )
    assert "http://chroma:8000" in repr(remote)
