"""The seccomp filter of a sandboxed program: it may start no process and no thread, and reach little of the kernel.

RLIMIT_NPROC does not hold for root's processes, and control groups are not a user's to make; so the number of processes is
limited to one by refusing the system calls that make them, which holds for everyone. Refused besides: what escapes
RLIMIT_AS (memfd, System V memory), what is not namespaced (keyrings, vsock sockets), and what only attacks a kernel.
"""

from __future__ import annotations

import functools
import platform
import struct

from sftgo_cli.errors import EnvironmentProblem

# Linux's own tables: arch/x86/entry/syscalls/syscall_64.tbl; include/uapi/asm-generic/unistd.h for aarch64
REFUSED: dict[str, tuple[int | None, int | None]] = {
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mq_open": (240, 180),
    "unshare": (272, 97),
    "setns": (308, 268),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "personality": (135, 92),
    "pidfd_open": (434, 434),
    "pidfd_getfd": (438, 438),
    "fanotify_init": (300, 262),
    "vmsplice": (278, 75),
}
CLONE3 = 435  # its flags lie in memory, where a filter cannot look; ENOSYS makes the C library fall back to clone
SOCKET = (41, 198)
MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}  # column above, AUDIT_ARCH_*
X32 = 0x40000000  # bit of the x32 calls, a second table on x86_64

_LOAD, _EQUAL, _AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _ERROR, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS, _AF_UNIX = 1, 38, 1
_NUMBER, _ARCH, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; little endian


def filter_program() -> bytes:
    """The BPF program for `bwrap --seccomp`.

    Raises:
        EnvironmentProblem: the machine is neither x86_64 nor aarch64.
    """
    return _program(platform.machine())


@functools.cache
def _program(machine: str) -> bytes:
    if machine not in MACHINES:
        what = f"the sandbox of programs has no system call filter for {machine}"
        raise EnvironmentProblem(what, "judge unit_tests", "run it on x86_64 or aarch64")
    column, arch = MACHINES[machine]
    numbers = sorted(number for row in REFUSED.values() if (number := row[column]) is not None)
    lines = [(_LOAD, 0, 0, _ARCH), (_EQUAL, 1, 0, arch), (_RETURN, 0, 0, _KILL), (_LOAD, 0, 0, _NUMBER)]
    if machine == "x86_64":
        lines += [(_AT_LEAST, 0, 1, X32), (_RETURN, 0, 0, _KILL)]
    lines += [(_EQUAL, 0, 1, CLONE3), (_RETURN, 0, 0, _ERROR | _ENOSYS)]
    for number in numbers:
        lines += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ERROR | _EPERM)]
    lines += [(_EQUAL, 0, 3, SOCKET[column]), (_LOAD, 0, 0, _FIRST_ARGUMENT)]
    lines += [(_EQUAL, 1, 0, _AF_UNIX), (_RETURN, 0, 0, _ERROR | _EPERM), (_RETURN, 0, 0, _ALLOW)]
    return b"".join(struct.pack("=HBBI", *line) for line in lines)
