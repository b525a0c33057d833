"""Write the filter that keeps system calls from a program in the sandbox. Pure: no I/O.

It refuses calls that get memory which no limit counts (anonymous files, shared segments), and calls that
generated code never needs. A refused call fails with EPERM, which Python reports as an OSError.
Source: seccomp(2), linux/filter.h, linux/audit.h; call numbers from asm/unistd_64.h and asm-generic/unistd.h.
"""

import struct

EPERM, ENOSYS = 1, 38
LOAD_WORD, JUMP_IF_EQUAL, JUMP_IF_NOT_LESS, RETURN = 0x20, 0x15, 0x35, 0x06
ALLOW, REFUSE, KILL = 0x7FFF0000, 0x00050000, 0x80000000
AT_NUMBER, AT_ARCHITECTURE = 0, 4
X32 = 0x40000000
"""Call numbers from here on belong to x86-64's second interface."""

ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    "memfd_create": (319, 279),
    "memfd_secret": (447, 447),
    "shmget": (29, 194),
    "msgget": (68, 186),
    "semget": (64, 190),
    "mount": (165, 40),
    "fsopen": (430, 430),
    "unshare": (272, 97),
    "setns": (308, 268),
    "ptrace": (101, 117),
    "process_vm_writev": (311, 271),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "add_key": (248, 217),
    "keyctl": (250, 219),
}
"""The numbers of each call, in the order of ARCHITECTURES."""


def seccomp_filter(machine: str) -> bytes | None:
    """Return the filter as an array of ``struct sock_filter``; None for a machine of unknown numbers."""
    if machine not in ARCHITECTURES:
        return None
    column = list(ARCHITECTURES).index(machine)
    code = [
        _instruction(LOAD_WORD, AT_ARCHITECTURE),
        _instruction(JUMP_IF_EQUAL, ARCHITECTURES[machine], yes=1),
        _instruction(RETURN, KILL),
        _instruction(LOAD_WORD, AT_NUMBER),
    ]
    if machine == "x86_64":
        code += [_instruction(JUMP_IF_NOT_LESS, X32, no=1), _instruction(RETURN, REFUSE | ENOSYS)]
    for numbers in NUMBERS.values():
        code += [_instruction(JUMP_IF_EQUAL, numbers[column], no=1), _instruction(RETURN, REFUSE | EPERM)]
    return b"".join([*code, _instruction(RETURN, ALLOW)])


def _instruction(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)
