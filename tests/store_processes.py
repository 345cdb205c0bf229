"""Writers and readers of one session as real processes, started quickly from one prepared one."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import random
import resource
import signal
import string
import sys
import time

import redis

from baton.errors import VersionNotFoundError
from baton.store import writing
from baton.store.contexts import ContextStore
from baton.store.keys import SessionKeys
from faulty_redis import Faults, faulty_client

WRITERS = 8
_start = multiprocessing.get_context("forkserver")
# Not this module: until Python 3.14 the server that forks does not look where pytest does.
_start.set_forkserver_preload(["baton.store.contexts"])
SHORT_STAGING_MS = 300


def start(target, *args):
    """A process that runs `target`, and the pipe that it sends its answers to."""
    ours, theirs = _start.Pipe(duplex=False)
    process = _start.Process(target=target, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def received(pipe):
    """All that was sent, up to the end of the process."""
    answers = []
    try:
        while True:
            answers.append(pipe.recv())
    except EOFError:
        return answers


def stamped_text(generator, lines=400):
    """A text of several chunks that tells by its first line whether it is whole."""
    body = "".join(
        "".join(generator.choices(string.ascii_letters, k=60)) + "\n" for _ in range(lines)
    )
    return f"{hashlib.sha256(body.encode()).hexdigest()}\n{body}"


def is_whole(text):
    stamp, _, body = text.partition("\n")
    return stamp == hashlib.sha256(body.encode()).hexdigest()


# --- writers that are killed ---------------------------------------------------------------------


def write_until_killed(path, name, seed, trips, pipe):
    """Write in every way, telling each version, until killed: at that round trip, if not before."""
    writing.STAGING_MS = SHORT_STAGING_MS
    faults = Faults()
    faults.arm("hold", trips, lambda: os.kill(os.getpid(), signal.SIGKILL))
    generator = random.Random(seed)
    store = ContextStore(faulty_client(str(path), faults), keep_versions=6, conflict_seconds=0.05)
    while True:
        pipe.send(write_somehow(store, name, generator))


def write_somehow(store, name, generator):
    """One write of some kind; the head as it is told, or None where it was a collection."""
    kind = generator.choice(("put", "put", "edit", "edit", "old base", "append", "collect"))
    if kind == "put" or not store.exists(name):
        return store.put(name, stamped_text(generator), agent_id="a").version
    if kind == "append":
        return store.append(name, "appended\n", agent_id="a").version
    if kind == "collect":
        store.collect(name, agent_id="a")
        return None
    records = store.history(name)
    record = records[0] if kind == "edit" else generator.choice(records)
    lines = store.get(name, record.version).content.splitlines(keepends=True)
    lines[generator.randrange(len(lines))] = f"edited {generator.random()}\n"
    return store.put(name, "".join(lines), agent_id="b", base_version=record.version).version


# --- writers that race ---------------------------------------------------------------------------


def slots_text():
    return "".join(f"== {slot}\nstart\n\n" for slot in (*range(WRITERS), "shared"))


def write_lines(url, name, writer, writes, pipe):
    """Add lines below a heading, mostly its own; what became of each."""
    generator = random.Random(writer)
    with redis.Redis.from_url(url) as client:
        store = ContextStore(client)
        for step in range(writes):
            head = store.get(name)
            time.sleep(generator.uniform(0, 0.02))  # it thinks, and the others write
            slot = "shared" if step % 8 == 0 else str(writer)
            line = f"writer {writer} step {step}"
            text = head.content.replace(f"== {slot}\n", f"== {slot}\n{line}\n")
            commit = store.put(name, text, agent_id=f"writer{writer}", base_version=head.version)
            pipe.send((line, commit.action, commit.conflict_id))
        store.close()


# --- readers beside writers ----------------------------------------------------------------------


def rewrite_forever(url, name, seed, pipe):
    """Replace the whole text, and collect, until killed."""
    store = ContextStore(redis.Redis.from_url(url), keep_versions=3)
    generator = random.Random(seed)
    while True:
        store.put(name, stamped_text(generator), agent_id="a")
        store.collect(name, agent_id="a")


def read_and_check(url, name, seed, reads, pipe):
    """Read heads, old versions and ranges; how many were read, and how many had gone."""
    generator = random.Random(seed)
    found, gone = 0, 0
    with redis.Redis.from_url(url) as client:
        store = ContextStore(client)
        while found < reads:
            try:
                found += read_somehow(store, client, name, generator)
            except VersionNotFoundError:
                gone += 1
        store.close()
    pipe.send((found, gone))


def read_somehow(store, client, name, generator):
    kind = generator.choice(("head", "head", "old", "parts"))
    versions = [version.decode() for version in client.hkeys(SessionKeys.of(name).manifests)]
    version = None if kind == "head" else generator.choice(versions)
    if kind != "parts":
        found = store.get(name, version)
        assert is_whole(found.content)
        assert version in (None, found.version)
        return 1
    middle = generator.randrange(20_000)
    parts = (
        store.read_range(name, 0, middle, version=version),
        store.read_range(name, middle, None, version=version),
    )
    assert is_whole("".join(part.content for part in parts))
    return 1


# --- a writer of what has nothing in common with the head ----------------------------------------


def write_strangers(url, name, size_bytes, pipe):
    """Random lines, the same reversed, and others, of one base: the outcome, and memory taken."""
    generator = random.Random(1)
    count = size_bytes // 64
    base = [f"{generator.getrandbits(252):063x}\n" for _ in range(count)]
    theirs = "".join(f"{generator.getrandbits(252):063x}\n" for _ in range(count))
    with redis.Redis.from_url(url) as client:
        store = ContextStore(client)
        store.put(name, "".join(base), agent_id="a")
        store.put(name, "".join(reversed(base)), agent_id="a", base_version="1.0.0")
        before = peak_bytes()
        commit = store.put(name, theirs, agent_id="b", base_version="1.0.0")
        pipe.send((commit.action, commit.conflict_id, peak_bytes() - before))
        store.close()


def peak_bytes():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
