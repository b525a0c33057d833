"""The settings that each client needs for an endpoint. Pure: no I/O. API keys are named, never contained.

Each function is one client. ``sources`` are its documentation, or its source code where that says more.
"""

import shlex
from collections.abc import Mapping

from qwenctl.client.connect.advice import Advice, Client, ClientFile, Only, Where
from qwenctl.gate import guard

NO_KEY = "none"
"""The key for clients that insist on one, where the endpoint needs none."""
KEY_VARIABLE = "QWENCTL_API_KEY"
IN_DOCKER = "host.docker.internal"


def _openai(where: Where) -> Advice:
    """The SDK appends paths such as ``/chat/completions`` to the base URL."""
    url = f"{where.url}/v1"
    variables = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": where.key or NO_KEY}
    return Advice(url, "OPENAI_API_KEY", variables, notes=(f"the model is called {where.model}",))


def _claude_code(where: Where) -> Advice:
    """Claude Code appends ``/v1/messages`` itself. Without a token it shows its login.

    It gives small tasks to the haiku model. Older versions read ANTHROPIC_SMALL_FAST_MODEL for that.
    """
    named = ("MODEL", "DEFAULT_OPUS_MODEL", "DEFAULT_SONNET_MODEL", "DEFAULT_HAIKU_MODEL", "SMALL_FAST_MODEL")
    plain = {"ANTHROPIC_BASE_URL": where.url} | {f"ANTHROPIC_{name}": where.model for name in named}
    token = {"ANTHROPIC_AUTH_TOKEN": Only(NO_KEY, wanted=where.key is None)}
    variables = {name: shlex.quote(value) for name, value in plain.items()}
    return Advice(
        where.url,
        "ANTHROPIC_AUTH_TOKEN",
        variables | {"ANTHROPIC_AUTH_TOKEN": where.key or NO_KEY},
        {"env": plain | token},
        _exported("ANTHROPIC_AUTH_TOKEN", where),
    )


def _codex(where: Where) -> Advice:
    """Codex appends ``/responses``, the only API it uses. ``env_key`` must name a variable that is set."""
    url = f"{where.url}/v1"
    provider = {
        "name": "qwenctl",
        "base_url": url,
        "wire_api": "responses",
        "env_key": Only(KEY_VARIABLE, wanted=where.key is not None),
    }
    context = {"model_context_window": where.context_tokens} if where.context_tokens else {}
    settings = {"model": where.model, "model_provider": "qwenctl", **context}
    return Advice(
        url,
        KEY_VARIABLE,
        {},
        settings | {"model_providers": {"qwenctl": provider}},
        _exported(KEY_VARIABLE, where),
    )


def _opencode(where: Where) -> Advice:
    """Opencode appends ``/chat/completions``. Small tasks may go to another provider without ``small_model``.

    A limit needs both numbers. A quarter of the context for the answer is our choice.
    """
    url, name, tokens = f"{where.url}/v1", f"qwenctl/{where.model}", where.context_tokens
    limit = {"limit": {"context": tokens, "output": tokens // 4}} if tokens else {}
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": "qwenctl",
        "options": {
            "baseURL": url,
            "apiKey": Only(f"{{env:{KEY_VARIABLE}}}", wanted=where.key is not None),
        },
        "models": {where.model: {"name": where.model, **limit}},
    }
    settings = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {"qwenctl": provider},
        "model": name,
        "small_model": name,
    }
    return Advice(url, KEY_VARIABLE, {}, settings, _exported(KEY_VARIABLE, where))


def _aider(where: Where) -> Advice:
    """Aider uses any OpenAI-compatible server for models with the prefix ``openai/``."""
    url = f"{where.url}/v1"
    variables = {
        "OPENAI_API_BASE": url,
        "OPENAI_API_KEY": where.key or NO_KEY,
        "AIDER_MODEL": shlex.quote(f"openai/{where.model}"),
    }
    notes = (f"or in .aider.conf.yml: openai-api-base: {url}, model: openai/{where.model}",)
    return Advice(url, "OPENAI_API_KEY", variables, notes=notes)


def _continue(where: Where) -> Advice:
    """Continue reads secrets from ``~/.continue/.env`` or from the editor's environment."""
    url = f"{where.url}/v1"
    model: dict[str, object] = {
        "name": where.model,
        "provider": "openai",
        "model": where.model,
        "apiBase": url,
    }
    if where.key is not None:
        model["apiKey"] = f"${{{{ secrets.{KEY_VARIABLE} }}}}"
    model |= {"roles": ["chat", "edit", "apply"], "capabilities": ["tool_use"]}
    if where.context_tokens:
        model["defaultCompletionOptions"] = {"contextLength": where.context_tokens}
    settings = {"name": "qwenctl", "version": "0.0.1", "schema": "v1", "models": [model]}
    notes: tuple[str, ...] = (
        "put the entry below models into ~/.continue/config.yaml; without such a file, use the whole text",
    )
    if where.key is not None:
        notes += (f"put the API key into ~/.continue/.env: {KEY_VARIABLE}=...",)
    return Advice(url, KEY_VARIABLE, {}, settings, notes)


def _open_webui(where: Where) -> Advice:
    """Open WebUI connects from its own server, which usually runs in a container."""
    port = where.url.rpartition(":")[2]
    url = f"http://{IN_DOCKER}:{port}/v1"
    variables = {"OPENAI_API_BASE_URL": url, "OPENAI_API_KEY": where.key or NO_KEY}
    notes = [
        f"docker run --add-host={IN_DOCKER}:host-gateway -e OPENAI_API_BASE_URL -e OPENAI_API_KEY ...",
        "the variables are read at the first start; later use Settings, Admin, Connections, OpenAI",
        f"outside a container the URL is {where.url}/v1",
    ]
    if guard.stays_here(where.host):
        notes.append(
            f"on Linux a container cannot reach {where.host}: "
            "set [server] host to an address that the container reaches, and an API key"
        )
    if where.rules is not None and where.key is None and not _lets_in(IN_DOCKER, where.rules):
        notes.append(
            f'set [gate] allowed_hosts = ["{IN_DOCKER}"]: without an API key the gate accepts no other name'
        )
    return Advice(url, "OPENAI_API_KEY", variables, notes=tuple(notes))


CLIENTS: Mapping[str, Client] = {
    "openai": Client(
        "OpenAI's SDKs", "shell", _openai, ("https://github.com/openai/openai-python (OPENAI_BASE_URL)",)
    ),
    "claude-code": Client(
        "Claude Code",
        "shell",
        _claude_code,
        (
            "https://code.claude.com/docs/en/env-vars",
            "https://code.claude.com/docs/en/model-config",
            "https://code.claude.com/docs/en/llm-gateway-connect",
        ),
        ClientFile("CLAUDE_CONFIG_DIR", "~/.claude", "settings.json"),
    ),
    "codex": Client(
        "Codex",
        "toml",
        _codex,
        (
            "https://developers.openai.com/codex/config-advanced",
            "https://github.com/openai/codex (codex-rs/model-provider-info/src/lib.rs)",
        ),
        ClientFile("CODEX_HOME", "~/.codex", "config.toml"),
    ),
    "opencode": Client(
        "opencode",
        "json",
        _opencode,
        ("https://opencode.ai/docs/providers#llamacpp", "https://opencode.ai/docs/config"),
        ClientFile("XDG_CONFIG_HOME", "~/.config", "opencode/opencode.json"),
    ),
    "aider": Client(
        "aider",
        "shell",
        _aider,
        ("https://aider.chat/docs/llms/openai-compat.html", "https://aider.chat/docs/config/dotenv.html"),
        unwritten="its .aider.conf.yml is YAML, and writing it would lose the comments",
    ),
    "continue": Client(
        "Continue",
        "yaml",
        _continue,
        ("https://docs.continue.dev/reference", "https://docs.continue.dev/faqs"),
        unwritten="its config.yaml is YAML, and writing it would lose the comments",
    ),
    "open-webui": Client(
        "Open WebUI",
        "shell",
        _open_webui,
        (
            "https://docs.openwebui.com/getting-started/quick-start/connect-a-provider/starting-with-llama-cpp",
            "https://docs.openwebui.com/getting-started/env-configuration",
        ),
    ),
}


def _exported(name: str, where: Where) -> tuple[str, ...]:
    """Return a note on how the key gets to a client whose file only names a variable."""
    if where.key is None or where.key == f'"${name}"':
        return ()
    return (f"before you start it: export {name}={where.key}",)


def _lets_in(host: str, rules: guard.Rules) -> bool:
    ask = guard.GuardQuestion("GET", "/v1/models", (host,), None, None, None, None, None, guard.KeyCheck.OPEN)
    return isinstance(guard.judge(ask, rules), guard.Enter)
