"""``qwenctl completion``: the completion script of a shell."""

import click
from click.shell_completion import get_completion_class

from qwenctl.cli.group import common, group
from qwenctl.cli.output import Result, Session
from qwenctl.errors import QwenctlError

VARIABLE = "_QWENCTL_COMPLETE"
PLACES = {
    "bash": 'eval "$(qwenctl completion bash)"  # in ~/.bashrc',
    "zsh": 'eval "$(qwenctl completion zsh)"  # in ~/.zshrc, after compinit',
    "fish": "qwenctl completion fish > ~/.config/fish/completions/qwenctl.fish",
}


@click.command("completion", epilog="Example: qwenctl completion bash >> ~/.bashrc")
@common
@click.argument("shell", type=click.Choice(list(PLACES)))
@click.pass_obj
def command(session: Session, shell: str) -> Result:
    """Print the completion script for a shell."""
    completion = get_completion_class(shell)
    if completion is None:
        raise QwenctlError(f"cannot complete in {shell}: click does not know it")
    script = completion(group, {}, "qwenctl", VARIABLE).source()
    if not session.json:
        session.say(f"# {PLACES[shell]}")
    return Result({"shell": shell, "script": script, "install": PLACES[shell]}, script.rstrip("\n"))
