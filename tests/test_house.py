# SPDX-License-Identifier: Apache-2.0
"""The order of the house: who may include whom, who may call the system, what names are used.

Every rule here is one that code review would otherwise have to remember. A message names the file,
the line and what to write instead.
"""

import ast
import importlib.util
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tokenize
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CORE = ROOT / "src" / "invcore"
PYTHON_ROOTS = ["python", "server", "bench", "tests", "tools"]

# A floor and everything it may include. stock and log never include each other.
FLOORS = {
    "base": {"base"},
    "stock": {"base", "stock"},
    "log": {"base", "log"},
    "store": {"base", "stock", "log", "store"},
    "wire": {"base", "wire"},  # pure functions over invcore.h's types; knows no store
    "serve": {"base", "stock", "log", "store", "wire", "serve"},
}

# Headers of stock/ that every module of it may include. All else meets in store/ only.
STOCK_SHARED = {"inv_row.h"}

STANDARD_HEADERS = (
    "assert complex ctype errno fenv float inttypes iso646 limits locale math setjmp signal "
    "stdalign stdarg stdatomic stdbool stddef stdint stdio stdlib stdnoreturn string tgmath "
    "threads time uchar wchar wctype"
)

# Calls into the outside world, and the files that may make them.
POSIX = {"inv_env_posix.c"}
SYSTEM_CALLS = {
    "clock": (
        "clock_gettime clock_getres clock_nanosleep gettimeofday time nanosleep usleep sleep",
        POSIX,
    ),
    "files": (
        "open openat creat fopen close read pread pwrite preadv pwritev lseek "
        "fsync fdatasync sync_file_range fallocate posix_fallocate "
        "ftruncate truncate rename renameat unlink "
        "unlinkat mkdir mkdirat opendir fdopendir readdir flock fcntl stat fstat fstatat",
        POSIX,
    ),
    "messages": ("write", POSIX | {"inv_base.c"}),  # the last words of a failed assertion
    "memory maps": ("mmap munmap mremap msync madvise mlock mprotect", POSIX),
    "entropy": ("getrandom getentropy rand random srand", POSIX),
    "heap": (
        "malloc calloc realloc reallocarray free aligned_alloc posix_memalign memalign strdup "
        "strndup asprintf alloca",
        POSIX | {"inv_env_mem.c"},
    ),
    "threads": ("pthread_create thrd_create", POSIX),
    "processes": ("fork vfork execve system popen", set()),
    "futex": ("syscall", POSIX | {"inv_lock.c"}),
}

# Words of identifiers that this code has another word for (C, Cython and Python alike).
BANNED_WORDS = {
    "avail": "available or available_to_promise",
    "booked": "allocated",
    "bucket": "stripe (a lock's domain) or slot (a place in it)",
    "buckets": "stripes or slots",
    "dst": "target",
    "salable": "available_to_promise",
    "seg": "segment",
    "src": "source",
    "tgt": "target",
}

# Whole names or shapes of names that hide a unit, a prefix or a meaning. C and Cython of src only.
BANNED_NAMES = {
    r"inv_\w+_(validate|verify)": "inv_<module>_check",
    r"inv_wheel_tick": "inv_wheel_advance",
    r"Inv[A-Z]\w*": "inv_<module>_<verb>, snake_case",
    r"last_lsn|synced_lsn": "lsn_appended or lsn_durable",
    r"seg_size|segment_size|payload_len|record_len": "segment_bytes, payload_bytes, record_bytes",
    r"SKU_LEN\w*": "INV_SKU_BYTES_MAX",
}

SYMBOL_KINDS_EXPORTED = set("ABCDGRSTVWi")


LINE_COLUMNS_MAX = 100  # of C; ruff looks after Python


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def c_files(folder: Path = CORE) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.suffix in (".c", ".h"))


def without_comments(text: str, *, keep_strings: bool = False) -> str:
    """Blank out comments (and the insides of strings) of C, line numbers unchanged."""

    def blank(match: re.Match[str]) -> str:
        token = match.group()
        if token.startswith("/"):
            return re.sub(r"[^\n]", " ", token)
        return token if keep_strings else token[0] + " " * (len(token) - 2) + token[-1]

    pattern = r'/\*.*?\*/|//[^\n]*|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    return re.sub(pattern, blank, text, flags=re.DOTALL)


def includes(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Yield (line, name, quoted) for each #include of a file."""
    text = without_comments(path.read_text(encoding="utf-8"), keep_strings=True)
    for number, line in enumerate(text.splitlines(), 1):
        match = re.match(r'\s*#\s*include\s*([<"])([^">]+)[">]', line)
        if match:
            yield number, match[2], match[1] == '"'


def resolve(path: Path, name: str, *roots: Path) -> Path | None:
    """Return the file that a quoted include means, None if there is none."""
    for root in (path.parent, *roots):
        candidate = (root / name).resolve()
        if candidate.is_file():
            return candidate
    return None


def report(problems: list[str]) -> None:
    assert not problems, "\n" + "\n".join(problems)


def core_includes() -> Iterator[tuple[Path, int, Path]]:
    """Yield (file, line, included file) for the quoted includes within src/invcore."""
    for path in c_files():
        for line, name, quoted in includes(path):
            if quoted:
                target = resolve(path, name, CORE)
                assert target is not None, f"{relative(path)}:{line}: no file {name}"
                assert CORE in target.parents, f"{relative(path)}:{line}: {name} is outside src"
                yield path, line, target


# ---- includes ------------------------------------------------------------------------------------


def test_sources_live_on_a_floor() -> None:
    assert c_files(), "no sources found"
    problems = []
    for path in c_files():
        parts = path.relative_to(CORE).parts
        if parts == ("invcore.h",):
            continue
        if len(parts) != 2 or parts[0] not in FLOORS:
            problems.append(f"{relative(path)}: not in one of {', '.join(FLOORS)}")
        elif not re.fullmatch(r"inv_[a-z0-9_]+", path.stem):
            problems.append(f"{relative(path)}: file names are inv_<module>[_<part>]")
    report(problems)


def test_includes_point_down() -> None:
    problems = []
    for path, line, target in core_includes():
        if target == CORE / "invcore.h" or path == CORE / "invcore.h":
            continue
        floor, other = path.parent.name, target.parent.name
        if other not in FLOORS.get(floor, set()):
            problems.append(f"{relative(path)}:{line}: {floor} may not include {other}")
    report(problems)


def test_public_header_stands_alone() -> None:
    problems = [
        f"invcore.h:{line}: {name} is not a header of standard C"
        for line, name, quoted in includes(CORE / "invcore.h")
        if quoted or name.removesuffix(".h") not in STANDARD_HEADERS.split()
    ]
    report(problems)


def test_stock_modules_do_not_include_one_another() -> None:
    """inv_hold.c, inv_hold.h and inv_hold_<part>.* are the module hold."""
    problems = []
    for path, line, target in core_includes():
        if path.parent.name != "stock" or target.parent.name != "stock":
            continue
        module, other = path.stem.split("_")[1], target.stem.split("_")[1]
        if module != other and target.name not in STOCK_SHARED:
            problems.append(
                f"{relative(path)}:{line}: {module} may not include {other}: they meet in store/"
            )
    report(problems)


def test_no_source_is_included_and_no_python() -> None:
    problems = []
    for path in c_files() + c_files(ROOT / "tests" / "c") + c_files(ROOT / "bench"):
        for line, name, _ in includes(path):
            if name.endswith(".c"):
                problems.append(f"{relative(path)}:{line}: a source includes a source")
            if Path(name).name.lower() in ("python.h", "cpython.h"):
                problems.append(f"{relative(path)}:{line}: Python has no place below the binding")
    report(problems)


def test_every_header_is_included() -> None:
    tests = ROOT / "tests" / "c"
    users = c_files() + c_files(tests) + c_files(ROOT / "bench")
    used = set()
    for path in users:
        for _, name, quoted in includes(path):
            if quoted:
                used.add(resolve(path, name, CORE, tests, tests / "sim", tests / "fuzz"))
    headers = [path for path in c_files() + c_files(tests) if path.suffix == ".h"]
    report([f"{relative(path)}: nobody includes it" for path in headers if path not in used])


def test_lines_fit_two_side_by_side() -> None:
    problems = [
        f"{relative(path)}:{number}: {len(line)} columns, at most {LINE_COLUMNS_MAX}"
        for path in c_files() + c_files(ROOT / "tests" / "c") + c_files(ROOT / "bench")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > LINE_COLUMNS_MAX
    ]
    report(problems)


def test_every_c_test_is_built() -> None:
    """CMake picks programs by name: a file named otherwise would silently never run."""
    problems = [
        f"{relative(path)}: name it test_<module>.c, or planted_<module>.c"
        for path in sorted((ROOT / "tests" / "c").glob("*.c"))
        if not path.name.startswith(("test_", "planted_"))
    ]
    report(problems)


def test_pxd_names_only_the_public_headers() -> None:
    path = CORE / "invcore.pxd"
    if not path.exists():
        pytest.skip("no src/invcore/invcore.pxd yet")
    named = set(re.findall(r'extern\s+from\s+"([^"]+)"', path.read_text(encoding="utf-8")))
    standard = {f"<{name}.h>" for name in STANDARD_HEADERS.split()}
    assert "invcore.h" in named
    assert named - standard <= {"invcore.h", "inv_serve.h"}


# ---- the outside world ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SYSTEM_CALLS)
def test_system_calls_are_where_they_belong(kind: str) -> None:
    calls, allowed = SYSTEM_CALLS[kind]
    # Not `env->open(...)`, `x.free(...)` or `inv_lock_free(...)`: those go through the seams.
    pattern = re.compile(rf"(?<![\w.>])({'|'.join(calls.split())})\s*\(")
    problems = []
    for path in c_files():
        if path.name in allowed:
            continue
        text = without_comments(path.read_text(encoding="utf-8"))
        for number, line in enumerate(text.splitlines(), 1):
            for match in pattern.finditer(line):
                where = ", ".join(sorted(allowed)) or "nowhere: threads belong to the caller"
                problems.append(f"{relative(path)}:{number}: {match[1]}() is for {where}")
    report(problems)


# ---- names ---------------------------------------------------------------------------------------


def test_exported_symbols_have_our_prefix() -> None:
    library = ROOT / "build" / "c" / "libinvcore.a"
    if not library.exists():
        pytest.skip("build/c/libinvcore.a is not built: run `make ctest` first")
    if shutil.which("nm") is None:
        pytest.skip("no nm on this machine")
    result = subprocess.run(
        ["nm", "--extern-only", "--defined-only", "--format=posix", library],
        capture_output=True,
        text=True,
        check=True,
    )
    symbols = set()
    for line in result.stdout.splitlines():
        fields = line.split()
        if len(fields) >= 2 and fields[1] in SYMBOL_KINDS_EXPORTED:
            symbols.add(fields[0])
    assert symbols
    report([f"{name}: not static and not inv_*" for name in sorted(symbols) if name[:4] != "inv_"])


def python_names(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string


def cython_names(path: Path) -> Iterator[tuple[int, str]]:
    text = path.read_text(encoding="utf-8")
    long_strings = r'"""(?:\\.|.)*?"""|\'\'\'(?:\\.|.)*?\'\'\''
    short_strings = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
    pattern = rf"{long_strings}|{short_strings}|#[^\n]*"
    text = re.sub(pattern, lambda m: re.sub(r"[^\n]", " ", m.group()), text, flags=re.DOTALL)
    yield from names_in(text)


def names_in(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), 1):
        for match in re.finditer(r"[A-Za-z_]\w*", line):
            yield number, match.group()


def python_files() -> list[Path]:
    return sorted(path for name in PYTHON_ROOTS for path in (ROOT / name).rglob("*.py"))


def all_names() -> Iterator[tuple[Path, int, str]]:
    for path in c_files() + c_files(ROOT / "tests" / "c") + c_files(ROOT / "bench"):
        for line, name in names_in(without_comments(path.read_text(encoding="utf-8"))):
            yield path, line, name
    for path in [*sorted(CORE.glob("*.pxd")), *sorted((ROOT / "python").rglob("*.pyx"))]:
        for line, name in cython_names(path):
            yield path, line, name
    for path in python_files():
        for line, name in python_names(path):
            yield path, line, name


def test_words_with_a_better_word() -> None:
    problems = []
    for path, line, name in all_names():
        for word in name.lower().split("_"):
            if word in BANNED_WORDS:
                problems.append(f"{relative(path)}:{line}: {name}: write {BANNED_WORDS[word]}")
    report(problems)


def test_names_with_a_better_name() -> None:
    problems = []
    for path, line, name in all_names():
        if path.suffix == ".py" or (CORE not in path.parents and path.suffix != ".pyx"):
            continue
        for pattern, better in BANNED_NAMES.items():
            if re.fullmatch(pattern, name):
                problems.append(f"{relative(path)}:{line}: {name}: write {better}")
    report(problems)


# ---- Python --------------------------------------------------------------------------------------


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) for everything a Python file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, f"{node.module or ''}.{alias.name}"


def test_binding_is_imported_by_the_package_only() -> None:
    problems = []
    for path in python_files():
        if ROOT / "python" / "inventory" in path.parents:
            continue
        for line, name in imports(path):
            if "_core" in name.split("."):
                problems.append(f"{relative(path)}:{line}: import inventory, not its _core")
    report(problems)


def test_package_does_not_know_the_server() -> None:
    problems = [
        f"{relative(path)}:{line}: the library may not import its front ends"
        for path in sorted((ROOT / "python").rglob("*.py"))
        for line, name in imports(path)
        if name.split(".")[0] == "inventory_server"
    ]
    report(problems)


# ---- what is shipped -----------------------------------------------------------------------------


def run_quietly(*arguments: object, environment: dict[str, str] | None = None) -> None:
    result = subprocess.run(
        [str(argument) for argument in arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=900,
    )
    assert result.returncode == 0, result.stdout


def have(*modules: str) -> bool:
    return all(importlib.util.find_spec(module) is not None for module in modules)


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel once and list it. Build tools already installed are used (no network)."""
    if not have("pip"):
        pytest.skip("no pip in this environment")
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--no-build-isolation"] if have("scikit_build_core", "Cython") else []
    environment = dict(os.environ)
    if not options:  # a kept build folder remembers tools of a build environment that is gone
        environment["SKBUILD_BUILD_DIR"] = str(folder / "build")
    run_quietly(
        *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", *options),
        *("--wheel-dir", folder, "."),
        environment=environment,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.mark.slow
def test_wheel_carries_no_sources(wheel_names: list[str]) -> None:
    unwanted = (".c", ".h", ".pyx", ".pxd", ".a", ".o", ".html", ".pyc")
    report([f"{name} is in the wheel" for name in wheel_names if name.endswith(unwanted)])


@pytest.mark.slow
def test_wheel_carries_the_packages(wheel_names: list[str]) -> None:
    wanted = [
        r"inventory/_core\.[^/]*\.?so",
        r"inventory/__init__\.py",
        r"inventory/_core\.pyi",
        r"inventory/_aio\.[^/]*\.?so",
        r"inventory/_aio\.pyi",
        r"inventory/_batch\.[^/]*\.?so",
        r"inventory/_batch\.pyi",
        r"inventory/_walk\.[^/]*\.?so",
        r"inventory/_walk\.pyi",
        r"inventory/_events\.[^/]*\.?so",
        r"inventory/_events\.pyi",
        r"inventory/py\.typed",
        r"inventory_server/__init__\.py",
        r"inventory_engine-[^/]+\.dist-info/licenses/LICENSE",
        r"inventory_engine-[^/]+\.dist-info/entry_points\.txt",
    ]
    report(
        [
            f"the wheel has no {pattern}"
            for pattern in wanted
            if not any(re.fullmatch(pattern, name) for name in wheel_names)
        ]
    )
    tops = {name.split("/")[0] for name in wheel_names}
    assert all(re.match(r"inventory(_server)?$|inventory_engine-", top) for top in tops), tops


@pytest.mark.slow
def test_sdist_carries_what_it_takes_to_build_and_test(tmp_path: Path) -> None:
    if not have("scikit_build_core"):
        pytest.skip("scikit-build-core is not installed here")
    script = "import sys; from scikit_build_core.build import build_sdist; build_sdist(sys.argv[1])"
    run_quietly(sys.executable, "-c", script, tmp_path)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        shipped = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    wanted = {"CMakeLists.txt", "Makefile", "LICENSE", "README.md", "pyproject.toml"}
    for name in ("src", "python", "server", "tests", "bench", "tools"):
        for path in (ROOT / name).rglob("*"):
            made = path.suffix in (".pyc", ".so", ".html") or path.name == "_core.c"
            if path.is_file() and not made and not {"__pycache__", ".hypothesis"} & set(path.parts):
                wanted.add(relative(path))
    report([f"the sdist has no {name}" for name in sorted(wanted - shipped)])
    unwanted = re.compile(r"(build|dist|\.venv[^/]*)/|.*\.(so|pyc)$")
    report([f"{name} is in the sdist" for name in sorted(shipped) if unwanted.match(name)])
