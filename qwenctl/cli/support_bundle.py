"""``qwenctl support-bundle``: write an archive of logs and settings for a bug report."""

import gzip
import io
import os
import sys
import tarfile
import time
from pathlib import Path

import click

from qwenctl.cli.arguments import request
from qwenctl.cli.group import common
from qwenctl.cli.output import Result, Session
from qwenctl.errors import QwenctlError, SettingsError
from qwenctl.files import reason

NAME = "qwenctl-support.tar.gz"


@click.command("support-bundle", epilog="Example: qwenctl support-bundle --yes -o bundle.tar.gz")
@common
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(NAME),
    metavar="FILE",
    help=f"Where to write it ({NAME}).",
)
@click.option("--yes", is_flag=True, help="Write without asking.")
@click.pass_obj
def command(session: Session, output: Path, *, yes: bool) -> Result:
    """Write an archive of logs and settings for a bug report.

    Keys, tokens, prompts and your name are removed. The content is listed before anything is written.
    """
    from qwenctl.cli.bundle import gather

    texts = gather(request(session, {}))
    session.say(f"keys, tokens, prompts and your name are removed; {output} will contain")
    session.say("\n".join(f"  {len(text.encode()):8} bytes  {name}" for name, text in texts.items()))
    listed = [{"name": name, "bytes": len(text.encode())} for name, text in texts.items()]
    if not yes and not _confirmed(output):
        return Result({"changed": False, "files": listed}, "nothing written")
    _write(output, texts)
    return Result({"changed": True, "path": str(output.absolute()), "files": listed}, str(output))


def _confirmed(output: Path) -> bool:
    if not sys.stdin.isatty():
        raise SettingsError(f"cannot write {output}: there is no terminal to ask on", hint="add --yes")
    return click.confirm(f"write {output}?", err=True)


def _write(path: Path, texts: dict[str, str]) -> None:
    """Write the archive; only its owner may read it."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb") as zipped,
        tarfile.open(fileobj=zipped, mode="w") as archive,
    ):
        for name, text in texts.items():
            data = text.encode()
            entry = tarfile.TarInfo(f"qwenctl-support/{name}")
            entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
            archive.addfile(entry, io.BytesIO(data))
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(packed.getvalue())
    except OSError as error:
        raise QwenctlError(f"cannot write {path}: {reason(error)}") from error
