"""Offer to install an engine where none is usable. Nothing is asked where nobody can answer."""

import click

from qwenctl.cli.engine_change import install_and_use
from qwenctl.cli.output import Session, can_ask
from qwenctl.deploy.missing_engine import install_policy, offer_for_this_machine
from qwenctl.errors import FetchError, NoServerError, QwenctlError
from qwenctl.settings.types import Settings

COMMANDS = "qwenctl engine install, or qwenctl up --yes, installs one"


def offer_engine(session: Session, settings: Settings, missing: QwenctlError, *, yes: bool) -> None:
    """Return once an engine is installed and in use.

    Raises:
        QwenctlError: ``missing``, where none may be installed, or the person says no; or it cannot be had.
    """
    policy = install_policy(settings, yes=yes, can_ask=can_ask(session))
    if policy == "refuse":
        if settings.server.install != "never":
            missing.hint = f"{COMMANDS}; {missing.hint}" if missing.hint else COMMANDS
        raise missing
    session.say(missing.message)
    try:
        source, offer = offer_for_this_machine(settings)
    except FetchError as error:
        session.say(error.message)
        missing.hint = error.hint
        raise missing from error
    if policy == "ask" and not click.confirm(f"install {offer.text}?", default=True, err=True):
        raise NoServerError("cannot serve: no engine is usable, and none was installed", hint=COMMANDS)
    install_and_use(session, settings, source, offer)
