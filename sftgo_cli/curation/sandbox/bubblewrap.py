"""Starts Python under bubblewrap (github.com/containers/bubblewrap): what a sandboxed process sees, and whether it works.

A process gets new user, process, network, IPC, host-name and control-group namespaces, no capability, an empty
environment, and a read-only file system of /usr, the interpreter's own prefix and /dev/null: no /proc, no /tmp, no home,
no folder that can be written. It may start no process and no thread (see `syscalls`), and has resource limits. It dies with
sftgo. Nothing runs without all that: `require_sandbox` probes it, once per process, and there is no other way to start.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from sftgo_cli.curation.sandbox.syscalls import filter_program
from sftgo_cli.errors import EnvironmentProblem

INSTALL = (
    "install bubblewrap: `apt-get install bubblewrap` (Debian, Ubuntu), `dnf install bubblewrap` (Fedora), "
    "`pacman -S bubblewrap` (Arch)"
)
WHERE = "judge unit_tests"
SYSTEM_LINKS = ("bin", "lib", "lib32", "lib64", "libx32")  # of /, usually links into /usr
FLAGS = ("-S", "-s", "-P", "-B")  # no site, no user's packages, no script folder on the path, no byte code written
ENVIRONMENT = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "PYTHONUTF8": "1"}  # sets iterate alike in every run
PROBE_SECONDS = 20.0
PROBE = """
import os, socket, _thread
found = []
def tries(what, function):
    try:
        function()
    except (OSError, RuntimeError):
        return
    found.append(what)
tries("it can read /etc/passwd", lambda: open("/etc/passwd"))
tries("it sees /proc", lambda: os.listdir("/proc/self"))
tries("it can write files", lambda: open("/probe", "w"))
tries("it can write to /dev", lambda: open("/dev/probe", "w"))
tries("it can start processes", os.fork)
tries("it can start threads", lambda: _thread.start_new_thread(int, ()))
tries("it has a network", lambda: socket.socket(socket.AF_INET))
if os.getuid() == 0 or os.geteuid() == 0:
    found.append("it runs as root")
if os.environ.keys() - {"PYTHONHASHSEED", "LANG", "PYTHONUTF8", "PWD", "LC_CTYPE"}:
    found.append("it sees the environment")
print("; ".join(found) or "contained")
"""
_probing = threading.Lock()


@functools.cache
def interpreter() -> Path:
    """The Python behind any virtual environment."""
    return Path(getattr(sys, "_base_executable", None) or sys.executable).resolve()


def command(bwrap: str, seccomp_fd: int, arguments: list[str]) -> list[str]:
    """The command line that runs Python with `arguments` in a sandbox."""
    line = [bwrap, "--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--die-with-parent"]
    line += ["--new-session", "--cap-drop", "ALL", "--clearenv", "--ro-bind", "/usr", "/usr"]
    for name in SYSTEM_LINKS:
        path = Path("/") / name
        if path.is_symlink():
            line += ["--symlink", str(path.readlink()), str(path)]
        elif path.is_dir():
            line += ["--ro-bind", str(path), str(path)]
    if Path("/etc/ld.so.cache").exists():  # finds libpython in /usr/local/lib
        line += ["--ro-bind", "/etc/ld.so.cache", "/etc/ld.so.cache"]
    prefix = Path(sys.base_prefix).resolve()
    for folder in dict.fromkeys((prefix, interpreter().parent)):
        if not folder.is_relative_to("/usr") and not (folder != prefix and folder.is_relative_to(prefix)):
            line += ["--ro-bind", str(folder), str(folder)]
    line += ["--dev-bind", "/dev/null", "/dev/null", "--remount-ro", "/", "--chdir", "/"]
    for name, value in ENVIRONMENT.items():
        line += ["--setenv", name, value]
    return [*line, "--seccomp", str(seccomp_fd), "--", str(interpreter()), *FLAGS, *arguments]


def start(
    bwrap: str, arguments: list[str], fds: tuple[int, ...], stdin: int, stdout: int, stderr: int
) -> subprocess.Popen[bytes]:
    """Start Python in a sandbox. It ends with the thread that started it."""
    read_end, write_end = os.pipe()
    try:
        os.write(write_end, filter_program())  # less than a pipe holds
        os.close(write_end)
        return subprocess.Popen(
            command(bwrap, read_end, arguments),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            pass_fds=(*fds, read_end),
            env={},  # the first process in there is bubblewrap's own: it must not hold the environment either
            cwd="/",
        )
    finally:
        os.close(read_end)


def find() -> str:
    """The path of bwrap. Raises EnvironmentProblem where there is none."""
    found = shutil.which("bwrap")
    if found is None:
        raise EnvironmentProblem("programs are only run in a sandbox, and bwrap is not on the PATH", WHERE, INSTALL)
    return found


def require_sandbox() -> str:
    """The path of a bwrap that contains a probe, which tries to get out.

    Raises:
        EnvironmentProblem: there is none, it does not start, or the probe got somewhere. Never is anything run without.
    """
    with _probing:
        return _probed(find())


@functools.cache
def _probed(bwrap: str) -> str:
    pipe = subprocess.PIPE
    try:
        process = start(bwrap, ["-c", PROBE], (), subprocess.DEVNULL, pipe, pipe)
    except OSError as problem:
        raise EnvironmentProblem(f"bubblewrap does not start: {problem}", bwrap, INSTALL) from None
    try:
        output, complaint = process.communicate(timeout=PROBE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise EnvironmentProblem(f"a probe in the sandbox took more than {PROBE_SECONDS:g} s", bwrap, "") from None
    said = output.decode("utf-8", "replace").strip()
    if process.returncode or said != "contained":
        complaints = complaint.decode("utf-8", "replace").strip().splitlines()
        why = said or (complaints[-1] if complaints else f"exit code {process.returncode}")
        raise EnvironmentProblem(
            f"the sandbox does not hold a probe: {why}", bwrap, remedy(complaint.decode("utf-8", "replace"))
        )
    return bwrap


def remedy(complaint: str, settings: Mapping[str, str] | None = None) -> str:
    """What to do about what bubblewrap said. `settings` are the kernel's, by their names in sysctl."""
    settings = _kernel_settings() if settings is None else settings
    if settings.get("kernel.unprivileged_userns_clone") == "0":
        return "allow user namespaces: `sudo sysctl kernel.unprivileged_userns_clone=1`"
    if settings.get("user.max_user_namespaces") == "0":
        return "allow user namespaces: `sudo sysctl user.max_user_namespaces=15000`"
    if settings.get("kernel.apparmor_restrict_unprivileged_userns") == "1":
        return (
            "AppArmor restricts user namespaces: give bwrap a profile that allows `userns` (Ubuntu 24.04: copy "
            "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict to /etc/apparmor.d and reload it, from the package "
            "apparmor-profiles), or `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
        )
    if "ermission denied" in complaint or "not permitted" in complaint:
        return "in a container, start it so that namespaces can be made (docker run --security-opt seccomp=unconfined)"
    if "nknown option" in complaint:
        return "its version is too old: 0.5 or newer is needed"
    return "see whether `bwrap --ro-bind / / true` works"


def _kernel_settings() -> dict[str, str]:
    names = (
        "kernel.unprivileged_userns_clone",
        "user.max_user_namespaces",
        "kernel.apparmor_restrict_unprivileged_userns",
    )
    paths = {name: Path("/proc/sys") / name.replace(".", "/") for name in names}
    return {name: path.read_text().strip() for name, path in paths.items() if path.exists()}
