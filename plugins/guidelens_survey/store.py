"""The survey's file: one SQLite database with the design, the pictures, the raters and their votes.

A vote is stored once :meth:`SurveyFile.vote` returns, because the write-ahead log is then on disk
(``synchronous=FULL``).
"""

from __future__ import annotations

import json
import secrets
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from guidelens.errors import GuidelensError, UsageError
from guidelens.files import explained, replacing

from .design import Rules, answers
from .wording import Question

R = TypeVar("R")

FORMAT = 1
APPLICATION = 0x676C7376
"""SQLite's application id of our files ("glsv")."""

DEFAULT_NAME = "survey.db"
"""Default name of a survey's file."""

SEATS_PER_RATER = 10
"""An open link closes when this multiple of the planned number of raters have answered something."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE image (
    token TEXT PRIMARY KEY, key TEXT NOT NULL, condition TEXT NOT NULL, prompt TEXT NOT NULL, seed INTEGER NOT NULL,
    width INTEGER NOT NULL, height INTEGER NOT NULL, png BLOB NOT NULL
);
CREATE TABLE item (
    id INTEGER PRIMARY KEY, seat INTEGER NOT NULL, position INTEGER NOT NULL, kind TEXT NOT NULL,
    prompt TEXT NOT NULL, seed INTEGER NOT NULL, shown TEXT NOT NULL, tokens TEXT NOT NULL,
    repeats INTEGER REFERENCES item, expected INTEGER, UNIQUE (seat, position)
);
CREATE TABLE rater (
    id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE, seat INTEGER, source TEXT NOT NULL, visit TEXT UNIQUE,
    consented REAL, instructed REAL, finished REAL, completion TEXT NOT NULL UNIQUE
);
CREATE TABLE vote (
    rater INTEGER NOT NULL REFERENCES rater, item INTEGER NOT NULL REFERENCES item, question TEXT NOT NULL,
    answer INTEGER NOT NULL, seconds REAL, at REAL NOT NULL, revised INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (rater, item, question)
) WITHOUT ROWID;
CREATE INDEX vote_item ON vote (item);
"""


@dataclass(frozen=True)
class StoredItem:
    """A screen: the content of a :class:`guidelens_survey.design.Item`, with its pictures' tokens."""

    id: int
    seat: int
    position: int
    kind: str
    prompt: str
    seed: int
    shown: tuple[str, ...]
    tokens: tuple[str, ...]
    repeats: int | None
    expected: int | None


@dataclass(frozen=True)
class Rater:
    """One rater: a random code, the seat whose items they see, and their progress (times in seconds since 1970, or
    None)."""

    id: int
    code: str
    seat: int | None
    source: str
    consented: float | None
    instructed: float | None
    finished: float | None
    completion: str


class SurveyFile:
    """Read and write a survey's file. Threads can share it.

    :param read_only: do not change any file. For reading a survey while it is served, or in a folder without write
        permission.
    :raises UsageError: the file is missing or not a survey.
    """

    def __init__(self, path: str | Path, *, read_only: bool = False) -> None:
        self.path, self.read_only = Path(path), read_only
        self._local = threading.local()
        self._writing, self._queueing = threading.Lock(), threading.Lock()
        self._queue: list[_Job] = []
        if not self.path.is_file():
            raise UsageError(f"{self.path}: no such file; guidelens survey create makes one")
        try:
            (application,) = self._db.execute("PRAGMA application_id").fetchone()
            if application != APPLICATION:
                self.close()
                raise UsageError(f"{self.path} is not a survey's file")
            self.meta: dict[str, Any] = {
                name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM meta")
            }
        except (sqlite3.DatabaseError, ValueError) as error:
            self.close()
            raise UsageError(f"{self.path} is not a survey's file, or cannot be opened: {error}") from error
        if self.meta.get("format") != FORMAT:
            raise UsageError(f"{self.path} has format {self.meta.get('format')}, this version reads {FORMAT}")

    @property
    def kind(self) -> str:
        """The design: ``pairwise``, ``rating`` or ``forced-choice``."""
        return str(self.meta["design"])

    @property
    def questions(self) -> list[Question]:
        """The questions of every item."""
        return [Question(**question) for question in self.meta["questions"]]

    @property
    def conditions(self) -> list[str]:
        """The compared conditions, in the study's order."""
        return list(self.meta["conditions"])

    @property
    def rules(self) -> Rules:
        """The exclusion rules for raters, fixed when the survey was created."""
        return Rules.from_dict(self.meta["rules"])

    def items(self, seat: int | None = None) -> list[StoredItem]:
        """Return the items of a seat, or of all, in order."""
        where, values = ("", ()) if seat is None else ("WHERE seat = ?", (seat,))
        rows = self._db.execute(f"SELECT * FROM item {where} ORDER BY seat, position", values)
        return [
            StoredItem(
                id_, of, position, kind, prompt, seed, _names(shown), _names(tokens), repeats, expected
            )
            for id_, of, position, kind, prompt, seed, shown, tokens, repeats, expected in rows
        ]

    def image(self, token: str) -> bytes | None:
        """Return a picture as PNG, or None for an unknown token."""
        row = self._db.execute("SELECT png FROM image WHERE token = ?", (token,)).fetchone()
        return None if row is None else bytes(row[0])

    def images(self) -> dict[str, dict[str, Any]]:
        """Return token -> key, condition, prompt, seed, width and height of every picture."""
        names = ("key", "condition", "prompt", "seed", "width", "height")
        rows = self._db.execute(f"SELECT token, {', '.join(names)} FROM image ORDER BY token")
        return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows}

    def raters(self) -> list[Rater]:
        """Return all raters, including holders of personal links that were never opened."""
        return [Rater(*row) for row in self._db.execute(f"{_RATER} ORDER BY id")]

    def rater(self, code: str) -> Rater | None:
        """Return the rater with a code."""
        return self._one_rater("code = ?", code)

    def visitor(self, visit: str) -> Rater | None:
        """Return the rater of an open link's visit, or None if the visitor has not consented."""
        return self._one_rater("visit = ?", visit)

    def join(self, visit: str, source: str = "open") -> Rater | None:
        """Return the rater of a visit. Create one if there is none yet. Return None if the survey is full.

        It is full when :data:`SEATS_PER_RATER` times the planned number of raters have answered. Raters without answers
        do not count.

        A new rater gets the seat that the fewest raters have finished, and among equals the one that the fewest have
        taken. The seats of unopened personal links count as not taken.
        """

        def work(db: sqlite3.Connection) -> Rater | None:
            row = db.execute(f"{_RATER} WHERE visit = ?", (visit,)).fetchone()
            if row is not None:
                return Rater(*row)
            (count,) = db.execute(
                "SELECT count(DISTINCT vote.rater) FROM vote JOIN rater ON rater.id = vote.rater WHERE source = ?",
                (source,),
            ).fetchone()
            if count >= SEATS_PER_RATER * self.meta["raters"]:
                return None
            (seat,) = db.execute(
                "SELECT i.seat FROM (SELECT DISTINCT seat FROM item) i"
                " LEFT JOIN rater r ON r.seat = i.seat AND r.consented IS NOT NULL"
                " GROUP BY i.seat ORDER BY count(r.finished), count(r.id), i.seat LIMIT 1"
            ).fetchone()
            db.execute(
                "INSERT INTO rater (code, seat, source, visit, consented, completion) VALUES (?, ?, ?, ?, ?, ?)",
                (new_token(), seat, source, visit, time.time(), new_completion()),
            )
            return Rater(*db.execute(f"{_RATER} WHERE visit = ?", (visit,)).fetchone())

        return self._write(work)

    def take(
        self, source: str, given: Sequence[tuple[str, StoredItem, Mapping[str, int], float | None]]
    ) -> int:
        """Store the answers of a file, all or none: rater, item, question -> answer, seconds. Existing answers do not
        change.

        :param source: the origin of the answers. A rater is given by a personal code, or by the visit (a hash) of a
            rater of another platform, who is created if needed. All raters count as having consented.
        :returns: how many answers were stored.
        :raises UsageError: an answer is not one of its item's.
        """
        for _, item, answers_, _ in given:
            self.check(item, answers_)
        now = time.time()

        def work(db: sqlite3.Connection) -> int:
            stored = 0
            ids: dict[str, int] = {}
            for name, item, answers_, seconds in given:
                if name not in ids:
                    ids[name] = _known_or_new(db, name, source, now)
                before = db.total_changes
                rows = [(ids[name], item.id, question, a, seconds, now) for question, a in answers_.items()]
                db.executemany(f"{_VOTE} ON CONFLICT DO NOTHING", rows)
                stored += db.total_changes - before
            db.executemany(_FINISH, [(now, rater) for rater in ids.values()])
            return stored

        return self._write(work)

    def mark(self, rater: Rater, event: str) -> None:
        """Store the time at which a rater ``consented``, was ``instructed`` or ``finished``. Only the first time is
        kept."""
        if event not in ("consented", "instructed", "finished"):
            raise ValueError(f"no such event: {event}")
        statement = f"UPDATE rater SET {event} = ? WHERE id = ? AND {event} IS NULL"
        self._write(lambda db: db.execute(statement, (time.time(), rater.id)))

    def answered(self, rater: Rater) -> dict[int, dict[str, int]]:
        """Return item id -> question -> answer of a rater."""
        found: dict[int, dict[str, int]] = {}
        rows = self._db.execute("SELECT item, question, answer FROM vote WHERE rater = ?", (rater.id,))
        for item, question, answer in rows:
            found.setdefault(item, {})[question] = answer
        return found

    def vote(
        self,
        rater: Rater,
        item: StoredItem,
        given: Mapping[str, int],
        *,
        seconds: float | None = None,
        revise: bool = False,
    ) -> int:
        """Store a rater's answers to an item, all or none. Return how many were stored.

        Existing answers change only with ``revise``, which says that the rater went back to change them.

        :raises UsageError: an answer or a question is not one of the item's, or is missing.
        """
        self.check(item, given)
        conflict = (
            " ON CONFLICT DO UPDATE SET answer = excluded.answer, at = excluded.at, revised = revised + 1"
            if revise
            else " ON CONFLICT DO NOTHING"
        )
        now = time.time()
        rows = [(rater.id, item.id, name, answer, seconds, now) for name, answer in given.items()]

        def work(db: sqlite3.Connection) -> int:
            before = db.total_changes
            db.executemany(_VOTE + conflict, rows)
            return db.total_changes - before

        return self._write(work)

    def check(self, item: StoredItem, given: Mapping[str, int]) -> None:
        """Raise UsageError unless ``given`` has a valid answer to every question of an item."""
        names = [question.name for question in self.questions]
        if sorted(given) != sorted(names):
            raise UsageError(f"answers to {', '.join(sorted(given)) or 'nothing'}, asked: {', '.join(names)}")
        possible = answers(self.kind, len(item.shown))
        for name, answer in given.items():
            if answer not in possible:
                raise UsageError(f"{name}: {answer} is not one of {', '.join(map(str, possible))}")

    def votes(self) -> list[dict[str, Any]]:
        """Return every vote with its item: the raw data."""
        names = ("rater", "item", "question", "answer", "seconds", "at", "revised")
        rows = self._db.execute(f"SELECT {', '.join(names)} FROM vote ORDER BY rater, item, question")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def close(self) -> None:
        """Close this thread's connection. Other connections close with their threads."""
        connection = getattr(self._local, "db", None)
        if connection is not None:
            connection.close()
            del self._local.db

    def back_up(self, target: sqlite3.Connection) -> None:
        """Copy the whole file into another database."""
        self._db.backup(target)

    @property
    def _db(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "db", None)
        if connection is None:
            connect = _connect_to_read if self.read_only else _connect
            connection = self._local.db = connect(self.path)
        return connection

    def _one_rater(self, where: str, value: str) -> Rater | None:
        row = self._db.execute(f"{_RATER} WHERE {where}", (value,)).fetchone()
        return None if row is None else Rater(*row)

    def _write(self, work: Callable[[sqlite3.Connection], R]) -> R:
        """Do ``work`` in a transaction and return its result once the transaction is on disk.

        Waiting for the disk takes longer than anything else here. So threads that arrive during a commit queue up, and
        the next one commits the work of all waiting threads at once (a group commit). Each work has its own savepoint,
        so that a failure undoes only that work.
        """
        job = _Job(work)
        with self._queueing:
            self._queue.append(job)
        with self._writing:
            if not job.done:
                with self._queueing:
                    batch, self._queue = self._queue, []
                self._commit(batch)
        if job.error is not None:
            raise job.error
        return cast(R, job.result)

    def _commit(self, batch: Sequence[_Job]) -> None:
        try:
            with _transaction(self._db, self.path):
                for job in batch:
                    job.run(self._db)
        except BaseException as error:
            for job in batch:
                job.error = job.error or error
        finally:
            for job in batch:
                job.done = True


class _Job:
    """Work of one thread that another thread may run."""

    def __init__(self, work: Callable[[sqlite3.Connection], Any]) -> None:
        self.work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.done = False

    def run(self, db: sqlite3.Connection) -> None:
        db.execute("SAVEPOINT job")
        try:
            self.result = self.work(db)
        except Exception as error:
            self.error = error
            db.execute("ROLLBACK TO job")
        db.execute("RELEASE job")


_VOTE = "INSERT INTO vote (rater, item, question, answer, seconds, at) VALUES (?, ?, ?, ?, ?, ?)"
_FINISH = (
    "UPDATE rater SET finished = ? WHERE id = ? AND finished IS NULL AND NOT EXISTS ("
    "SELECT 1 FROM item WHERE item.seat = rater.seat"
    " AND item.id NOT IN (SELECT vote.item FROM vote WHERE vote.rater = rater.id))"
)
"""Marks a rater who has answered every item of their seat. A rater without a seat has no items left."""
_RATER = "SELECT id, code, seat, source, consented, instructed, finished, completion FROM rater"


def write_survey(
    path: Path, meta: Mapping[str, Any], images: Sequence[tuple[Any, ...]], items: Sequence[StoredItem]
) -> None:
    """Write a new survey's file, with a personal code per seat.

    The file appears when it is complete.

    :param images: rows of the table ``image``.
    :raises UsageError: the file exists already.
    """
    if path.exists():
        raise UsageError(f"{path} exists; choose another name, or remove it if its votes are not needed")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as temporary, closing(_connect(temporary)) as db:
            db.executescript(f"PRAGMA application_id = {APPLICATION};{_SCHEMA}")
            with _transaction(db, path):
                values = [(name, json.dumps(value, ensure_ascii=False)) for name, value in meta.items()]
                db.executemany("INSERT INTO meta VALUES (?, ?)", values)
                db.executemany("INSERT INTO image VALUES (?, ?, ?, ?, ?, ?, ?, ?)", images)
                db.executemany("INSERT INTO item VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", map(_row, items))
                seats = sorted({item.seat for item in items})
                db.executemany(
                    "INSERT INTO rater (code, seat, source, completion) VALUES (?, ?, 'personal', ?)",
                    [(new_token(), seat, new_completion()) for seat in seats],
                )
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # closing removes the -wal and -shm files
    except (OSError, sqlite3.Error) as error:
        raise GuidelensError(f"cannot write {path}: {error}") from error


def copy_survey(path: Path, target: Path) -> None:
    """Copy the design and pictures of a survey to a new file, without raters and answers. The survey may be served
    meanwhile.

    :raises UsageError: ``path`` is not a survey.
    :raises GuidelensError: the copy cannot be written.
    """
    source = SurveyFile(path, read_only=True)
    try:
        with explained(f"cannot write {target}"), closing(_connect(target)) as db:
            source.back_up(db)
            with _transaction(db, target):
                db.execute("DELETE FROM vote")
                db.execute("DELETE FROM rater")
    except sqlite3.Error as error:
        raise GuidelensError(f"cannot copy {path} to {target}: {error}") from error
    finally:
        source.close()


def _known_or_new(db: sqlite3.Connection, name: str, source: str, now: float) -> int:
    """Return the id of the rater with a code or visit. Create the rater if needed, and store their consent."""
    row = db.execute("SELECT id FROM rater WHERE code = ? OR visit = ?", (name, name)).fetchone()
    if row is None:
        insert = "INSERT INTO rater (code, source, visit, consented, completion) VALUES (?, ?, ?, ?, ?)"
        return int(db.execute(insert, (new_token(), source, name, now, new_completion())).lastrowid or 0)
    db.execute("UPDATE rater SET consented = ? WHERE id = ? AND consented IS NULL", (now, row[0]))
    return int(row[0])


def new_token() -> str:
    """Return a random token of 128 bits for an address."""
    return secrets.token_urlsafe(16)


def new_completion() -> str:
    """Return a code that is easy to copy by hand, without letters or digits that look alike."""
    return "".join(secrets.choice("ABCDEFGHJKMNPQRSTUVWXYZ23456789") for _ in range(10))


def _names(text: str) -> tuple[str, ...]:
    return tuple(json.loads(text))


def _row(item: StoredItem) -> tuple[Any, ...]:
    shown, tokens = json.dumps(item.shown, ensure_ascii=False), json.dumps(item.tokens)
    about = (item.id, item.seat, item.position, item.kind, item.prompt, item.seed)
    return (*about, shown, tokens, item.repeats, item.expected)


class _Connection(sqlite3.Connection):
    """A connection of one thread that closes itself when the thread has ended."""

    def __del__(self) -> None:
        self.close()


def _open(address: str | Path, *, uri: bool = False) -> sqlite3.Connection:
    # Closing may happen in another thread, so SQLite's own check is off. Threads never share a connection.
    return sqlite3.connect(
        address, timeout=30, isolation_level=None, check_same_thread=False, factory=_Connection, uri=uri
    )


def _connect(path: Path) -> sqlite3.Connection:
    db = _open(path)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA foreign_keys = ON")
    return db


def _connect_to_read(path: Path) -> sqlite3.Connection:
    """Connect without writing anything.

    Readers and writers of a write-ahead log do not wait for each other. If there is no log, no process has the file
    open. SQLite would then create an empty log and leave it there, so this connection declares that the file does not
    change.
    """
    in_use = path.with_name(f"{path.name}-wal").exists()
    address = f"{path.resolve().as_uri()}?{'mode=ro' if in_use else 'immutable=1'}"
    return _open(address, uri=True)


def find_surveys(directory: Path) -> list[Path]:
    """Return the survey files in a directory, recognised by their content, not by their names.

    A file with the name that ``guidelens survey create`` gives is always included: with other content, it is a damaged
    survey.
    """
    try:
        files = sorted(path for path in directory.iterdir() if path.is_file())
    except OSError:
        return []
    return [path for path in files if path.name == DEFAULT_NAME or _is_survey(path)]


def _is_survey(path: Path) -> bool:
    """Return whether a file has SQLite's header, with our application id in bytes 68 to 71 (SQLite's file format,
    1.3)."""
    try:
        with path.open("rb") as file:
            head = file.read(72)
    except OSError:
        return False
    return head.startswith(b"SQLite format 3\0") and head[68:] == APPLICATION.to_bytes(4, "big")


@contextmanager
def _transaction(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    try:
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")
    except sqlite3.OperationalError as error:
        raise GuidelensError(f"cannot write {path}: {error}; nothing of this was stored") from error
