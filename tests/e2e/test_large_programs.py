"""Large programs leave on a mount what they leave on a native file system, and a kill costs them nothing."""

import base64
import hashlib
import os
import re
import shutil
import signal
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.node import Node
from tests.e2e.processes import NOBODY
from tests.e2e.trees import assert_survives_restarts, run

pytestmark = pytest.mark.heavy
REBASED: Final = 200
FILES: Final = 300
SOURCES: Final = 60
MODULES: Final = 120
PARAGRAPHS: Final = 400
POSTGRES: Final = Path("/usr/lib/postgresql")
BENCH_S: Final = 600
PROGRAM_S: Final = 300.0
CLIENTS: Final = 4
SUMS: Final = (
    "SELECT sum(abalance) FROM pgbench_accounts",
    "SELECT sum(bbalance) FROM pgbench_branches",
    "SELECT sum(tbalance) FROM pgbench_tellers",
    "SELECT sum(delta) FROM pgbench_history",
)


@pytest.fixture
def pair(mounted: Node, tmp_path: Path) -> tuple[Path, Path]:
    """A directory on the mount, and its like on a native file system."""
    native = tmp_path / "native"
    native.mkdir()
    return mounted.root, native


def file_names(tree: Path) -> list[str]:
    return sorted(str(path.relative_to(tree)) for path in tree.rglob("*"))


# -- git


def test_git_rebases_two_hundred_commits_in_a_worktree(mounted: Node, pair: tuple[Path, Path]) -> None:
    who = ("NAME", "A"), ("EMAIL", "a@b"), ("DATE", "1700000000 +0000")
    identity = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in who}

    def git(*words: str | Path, cwd: Path) -> str:
        return run("git", *words, cwd=cwd, **identity)

    def commit(tree: Path, name: str, line: str) -> None:
        with (tree / name).open("a") as file:
            file.write(f"{line}\n")
        git("add", "-A", cwd=tree)
        git("commit", "-q", "-m", line, cwd=tree)

    told = []
    for place in pair:
        origin, clone, tree = place / "origin", place / "clone", place / "tree"
        git("init", "-q", "-b", "main", origin, cwd=place)
        for number in range(FILES):
            (origin / f"d{number % 9}").mkdir(exist_ok=True)
            (origin / f"d{number % 9}/{number}.txt").write_text(f"{number}\n" * number)
        commit(origin, "main.txt", "first")
        git("clone", "-q", "--no-local", origin, clone, cwd=place)
        git("worktree", "add", "-q", "-b", "topic", tree, cwd=clone)
        for number in range(REBASED):
            commit(tree, f"topic-{number % 20}.txt", f"topic {number}")
        commit(clone, "main.txt", "second")
        git("rebase", "-q", "main", cwd=tree)
        assert git("status", "--porcelain", cwd=tree) == ""
        assert git("rev-list", "--count", "main..topic", cwd=tree).strip() == str(REBASED)
        git("gc", "-q", "--prune=now", cwd=clone)
        git("fsck", "--strict", cwd=clone)
        told.append((git("rev-parse", "topic", "main", cwd=clone), file_names(tree)))
    assert told[0] == told[1]
    on_mount = pair[0]
    assert_survives_restarts(mounted, on_mount)
    assert git("diff-files", cwd=on_mount / "tree") == ""
    git("worktree", "remove", on_mount / "tree", cwd=on_mount / "clone")
    assert git("worktree", "list", cwd=on_mount / "clone").count("\n") == 1


# -- Building


def make_project(top: Path) -> None:
    """Sources in C with a header for all, a library, a program, and rules that know what depends on what."""
    top.mkdir()
    (top / "all.h").write_text("".join(f"int part{number}(int);\n" for number in range(SOURCES)))
    for number in range(SOURCES):
        (top / f"part{number}.c").write_text(
            f'#include "all.h"\nint part{number}(int x) {{ return x * {number} + {number % 7}; }}\n'
        )
    calls = " + ".join(f"part{number}(3)" for number in range(SOURCES))
    (top / "main.c").write_text(
        f'#include <stdio.h>\n#include "all.h"\nint main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    (top / "Makefile").write_text(
        "PARTS := $(patsubst %.c,build/%.o,$(wildcard part*.c))\n"
        "program: build/main.o build/libparts.a\n\t$(CC) -o $@ build/main.o -Lbuild -lparts\n"
        "build/libparts.a: $(PARTS)\n\trm -f $@ && ar rcs $@ $^\n"
        "build/%.o: %.c | build\n\t$(CC) -O1 -MMD -MP -c -o $@ $<\n"
        "build:\n\tmkdir -p $@\n"
        "clean:\n\trm -rf build program\n.PHONY: clean\n"
        "-include $(wildcard build/*.d)\n"
    )


def test_make_builds_in_parallel_and_then_only_what_has_changed(
    mounted: Node, pair: tuple[Path, Path]
) -> None:
    told = []
    for place in pair:
        top = place / "project"
        make_project(top)
        run("make", "-j", "8", cwd=top)
        assert "up to date" in run("make", "-j", "8", cwd=top)
        (top / "part7.c").write_text('#include "all.h"\nint part7(int x) { return x; }\n')
        again = run("make", "-j", "8", cwd=top)
        assert [word for word in again.split() if word.endswith(".c")] == ["part7.c"]
        os.utime(top / "all.h")
        assert sum(word.endswith(".c") for word in run("make", "-j", "8", cwd=top).split()) == SOURCES + 1
        told.append((run(top / "program"), file_names(top), (top / "program").read_bytes()))
    assert told[0] == told[1]
    top = pair[0] / "project"
    assert_survives_restarts(mounted, pair[0])
    assert "up to date" in run("make", cwd=top)
    run("make", "clean", cwd=top)
    assert run("make", "-j", "8", cwd=top) and run(top / "program") == told[0][0]


# -- Python


def make_wheel(directory: Path) -> Path:
    """A wheel with modules, data and a command (packaging.python.org, Binary distribution format)."""
    files = {
        f"manyparts/part{number}.py": f"VALUE = {number}\n" + f"# {'x' * 70}\n" * number
        for number in range(MODULES)
    }
    imports = "".join(f"from manyparts import part{number}\n" for number in range(MODULES))
    total = " + ".join(f"part{number}.VALUE" for number in range(MODULES))
    files["manyparts/__init__.py"] = f"{imports}\n\ndef main():\n    print({total})\n"
    files["manyparts/data/table.bin"] = "0123456789" * 30_000
    about = "manyparts-1.0.dist-info"
    files[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: manyparts\nVersion: 1.0\n"
    files[f"{about}/WHEEL"] = (
        "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    )
    files[f"{about}/entry_points.txt"] = "[console_scripts]\nmanyparts = manyparts:main\n"

    def line(name: str, text: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        return f"{name},sha256={digest},{len(text.encode())}\n"

    record = "".join(line(name, text) for name, text in files.items()) + f"{about}/RECORD,,\n"
    path = directory / "manyparts-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in {**files, f"{about}/RECORD": record}.items():
            wheel.writestr(name, text)
    return path


def test_an_environment_of_python_takes_packages_and_gives_them_up(
    mounted: Node, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path)
    told = []
    python = Path("/usr/bin/python3")
    for place in pair:
        top = place / "environment"
        run(python, "-m", "venv", top)
        pip = (top / "bin/python", "-m", "pip", "--disable-pip-version-check", "--no-input")
        run(*pip, "install", "-q", "--no-index", wheel)
        run(*pip, "check")
        run(*pip, "install", "-q", "--no-index", "--force-reinstall", wheel)
        told.append((run(top / "bin/manyparts"), run(*pip, "list"), file_names(top)))
        assert told[-1][0].split() == [str(sum(range(MODULES)))]
    assert told[0] == told[1]
    top = pair[0] / "environment"
    assert_survives_restarts(mounted, pair[0])
    assert run(top / "bin/manyparts") == told[0][0]
    run(top / "bin/python", "-m", "pip", "uninstall", "-q", "-y", "manyparts")
    assert not list(top.rglob("manyparts*"))


# -- LibreOffice


def test_an_office_converts_saves_over_and_reads_back(
    mounted: Node, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    office = shutil.which("soffice")
    assert office, "LibreOffice is not installed: sh packaging/dev test heavy"

    def convert(place: Path, to: str, name: str, into: Path) -> None:
        profile = f"-env:UserInstallation=file://{place}/profile"
        command = (office, profile, "--headless", "--norestore", "--convert-to", to, "--outdir", into, name)
        run(*command, cwd=place, HOME=str(tmp_path))

    told = []
    for place in pair:
        text = "".join(f"Paragraph {number} of a letter: äöü €\n" for number in range(PARAGRAPHS))
        (place / "letter.txt").write_text(text)
        convert(place, "odt:writer8", "letter.txt", place / "out")
        convert(place, "odt:writer8", "letter.txt", place / "out")  # over the first one
        convert(place, "pdf:writer_pdf_Export", "out/letter.odt", place / "out")
        convert(place, "txt:Text (encoded):UTF8", "out/letter.odt", place / "back")
        assert (place / "back/letter.txt").read_text(encoding="utf-8-sig") == text
        assert (place / "out/letter.pdf").read_bytes().startswith(b"%PDF-")
        with zipfile.ZipFile(place / "out/letter.odt") as document:
            assert document.testzip() is None
        told.append([file_names(place / "out"), file_names(place / "back")])
    assert told[0] == told[1] == [["letter.odt", "letter.pdf"], ["letter.txt"]]
    assert_survives_restarts(mounted, pair[0])


# -- PostgreSQL


class Cluster:
    """A database server whose data lie in a directory; run as a user without rights, as it demands."""

    def __init__(self, data: Path, scratch: Path) -> None:
        self.data = data
        self._scratch = scratch
        self._log = scratch / "server.log"
        versions = sorted(POSTGRES.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
        assert versions, "PostgreSQL is not installed: sh packaging/dev test heavy"
        self._programs = versions[-1].parent
        self._become: tuple[str, ...] = ()
        scratch.mkdir()
        if os.geteuid() == 0:
            self._become = ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups")
            shutil.chown(scratch, NOBODY, NOBODY)
        self._server: subprocess.Popen[bytes] | None = None
        self.where = ("-h", str(scratch), "-U", "bench")

    def command(self, program: str, *words: str | Path) -> list[str]:
        return [*self._become, str(self._programs / program), *map(str, words)]

    def run(self, program: str, *words: str | Path) -> str:
        return run(*self.command(program, *words), cwd=self._scratch, HOME=str(self._scratch))

    def make(self) -> None:
        self.data.mkdir()
        if self._become:
            shutil.chown(self.data, NOBODY, NOBODY)
        self.run("initdb", "-D", self.data, "-U", "bench", "-A", "trust", "-E", "UTF8", "--data-checksums")

    def start(self) -> None:
        """Return when it answers."""
        settings = (
            "listen_addresses=",
            f"unix_socket_directories={self._scratch}",
            "restart_after_crash=off",
        )
        words = [word for setting in settings for word in ("-c", setting)]
        with self._log.open("ab") as log:
            self._server = subprocess.Popen(
                self.command("postgres", "-D", self.data, *words), cwd=self._scratch, stdout=log, stderr=log
            )
        ready = self.command("pg_isready", "-h", self._scratch, "-t", "60")
        for _ in range(600):
            assert self._server.poll() is None, self._log.read_text()[-4000:]
            if subprocess.run(ready, capture_output=True, check=False).returncode == 0:
                return
            try:
                self._server.wait(0.1)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError(self._log.read_text()[-4000:])

    def stop(self) -> None:
        """An orderly end."""
        assert self._server is not None
        self._server.send_signal(signal.SIGINT)
        assert self._server.wait(PROGRAM_S) == 0, self._log.read_text()[-4000:]
        self._server = None

    def end(self) -> None:
        """At once, whatever state it is in."""
        if self._server is not None:
            self._server.send_signal(signal.SIGQUIT)
            self._server.wait(PROGRAM_S)
            self._server = None

    def ask(self, question: str) -> str:
        return self.run("psql", *self.where, "-d", "bank", "-Atc", question).strip()

    def open_bank(self) -> None:
        self.run("createdb", *self.where, "bank")
        said = self.bench("-i", "-s", 2, "-q").communicate(timeout=PROGRAM_S)[0]
        assert "done in" in said, said

    def bench(self, *words: str | int) -> subprocess.Popen[str]:
        """pgbench: transactions that move money. It would empty the history first (-n)."""
        return subprocess.Popen(
            self.command("pgbench", "-n", *map(str, words), *self.where, "bank"),
            cwd=self._scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def check(self) -> None:
        """Every table and every index, each against the other."""
        self.run("pg_amcheck", *self.where, "--install-missing", "--heapallindexed", "bank")


@pytest.fixture
def cluster(mounted: Node, tmp_path: Path, ground: Path) -> Iterator[Cluster]:
    if os.geteuid() == 0:
        mounted.unmount()
        for path in (tmp_path, *tmp_path.parents[:2]):
            path.chmod(path.stat().st_mode | 0o055)
        mounted.options = ("-o", "allow_other")
        mounted.mount()
        mounted.root.chmod(0o755)
    made = Cluster(mounted.root / "data", ground / "postgres")
    yield made
    made.end()


def test_a_bank_loses_no_transaction_when_the_daemon_is_killed(mounted: Node, cluster: Cluster) -> None:
    cluster.make()
    cluster.start()
    cluster.open_bank()
    committed = 0
    for transactions in (200, 300):
        said = cluster.bench("-c", CLIENTS, "-t", transactions).communicate(timeout=PROGRAM_S)[0]
        assert "number of failed transactions: 0" in said, said
        committed += CLIENTS * transactions
        cluster.ask("CHECKPOINT")  # from here on the log is what recovery goes by: all before must be there
        bench = cluster.bench("-c", CLIENTS, "-T", BENCH_S, "-P", 1)
        assert bench.stdout is not None
        while not re.match(r"progress: \d+\.\d s, [1-9]", said := bench.stdout.readline()):
            assert said, "the bench has ended"
        mounted.kill_daemon()
        said = bench.communicate(timeout=PROGRAM_S)[0]
        processed = re.search(r"number of transactions actually processed: (\d+)", said)
        assert processed, said
        cluster.end()
        mounted.mount()
        cluster.start()
        committed += int(processed[1])
        history = int(cluster.ask("SELECT count(*) FROM pgbench_history"))
        assert committed <= history <= committed + CLIENTS
        committed = history
        assert len(set(cluster.ask(f"SELECT {','.join(f'({sum})' for sum in SUMS)}").split("|"))) == 1
        cluster.check()
    cluster.stop()
    for path in mounted.root.rglob("* (recovered, *"):
        path.unlink()  # recovery had no use for them, and the checker takes them for tables
    assert "Bad checksums:  0" in cluster.run("pg_checksums", "--check", "-D", cluster.data)
    assert_survives_restarts(mounted, mounted.root)
    cluster.start()
    assert int(cluster.ask("SELECT count(*) FROM pgbench_history")) == committed
    cluster.stop()
