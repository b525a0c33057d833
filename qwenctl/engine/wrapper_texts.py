"""What a script says that only starts llama-server elsewhere, and cannot. Pure: data only.

``[server] binary`` may name a script around docker, podman, toolbox, nix or ssh. What is missing then is not
a llama-server: each text has a way out of its own.
"""

import re
from dataclasses import dataclass

OTHERWISE = "or set [server] binary to a llama-server that runs by itself"


@dataclass(frozen=True, slots=True)
class WrapperText:
    """A text of a program around llama-server. ``needs`` is what it lacks, ``hint`` the way out."""

    text: re.Pattern[str]
    needs: str
    hint: str


WRAPPER_TEXTS = (
    WrapperText(
        re.compile(r"permission denied while trying to connect to the [Dd]ocker", re.MULTILINE),
        "docker, which this user may not use",
        f"add the user to the group docker and log in again, {OTHERWISE}",
    ),
    WrapperText(
        re.compile(
            r"Cannot connect to the Docker daemon|failed to connect to the docker API|docker daemon .*running"
        ),
        "docker, which does not run",
        f"start docker (systemctl start docker, or Docker Desktop), {OTHERWISE}",
    ),
    WrapperText(
        re.compile(
            r"could not select device driver .*gpu|nvidia-container-cli: .*"
            r"|unresolvable CDI devices nvidia\.com/gpu\S*|unknown or invalid runtime name: nvidia"
        ),
        "a container that sees the GPU, and this one does not",
        f"install the NVIDIA Container Toolkit and restart docker, {OTHERWISE}",
    ),
    WrapperText(
        re.compile(
            r"Unable to find image|pull access denied|manifest unknown|No such image|image not known"
            r"|initializing source docker:"
        ),
        "an image that is not here",
        f"pull the image once by hand, {OTHERWISE}",
    ),
    WrapperText(
        re.compile(r"[Nn]o such container|container \S+ (?:not found|does not exist)|no container with name"),
        "a container that is not here",
        f"create the container again, {OTHERWISE}",
    ),
    WrapperText(
        re.compile(r"[Cc]annot connect to Podman|unable to connect to Podman|podman machine start"),
        "podman, which does not run",
        f"start it (podman machine start, or systemctl --user start podman.socket), {OTHERWISE}",
    ),
    WrapperText(
        re.compile(r"cannot connect to (?:socket at|daemon at) '?/nix/"),
        "nix, whose daemon does not run",
        f"start it (systemctl start nix-daemon), {OTHERWISE}",
    ),
    WrapperText(
        re.compile(r"experimental Nix feature '(?:nix-command|flakes)' is disabled"),
        "nix with flakes, which are off",
        f"set experimental-features = nix-command flakes in nix.conf, {OTHERWISE}",
    ),
    WrapperText(
        re.compile(r"ssh: (?:connect to host|Could not resolve hostname)|Permission denied \(publickey"),
        "another machine, which ssh cannot reach",
        f"try the ssh line by hand; a server on another machine is none of this machine's, {OTHERWISE}",
    ),
)
"""In this order; the first match wins.

Source: messages of docker's and podman's command lines, NVIDIA's container runtime, nix and OpenSSH, as
people paste them.
"""
NOT_FOUND = re.compile(r"([\w./+-]+): (?:command )?not found|command not found: (\S+)")
"""What a shell says of a program that is not there: dash, bash and zsh."""
MISSING_PROGRAM = 127
"""A shell's exit code then. Source: POSIX, sh."""
