"""Say what each client wants to be told of an endpoint. Pure: no I/O; keys are named, never held.

Each function is one client; ``sources`` are its own documentation, or its source where that says more.
"""

import shlex
from collections.abc import Mapping

from qwenctl.client.connect.advice import Advice, Client, ClientFile, Only, Where
from qwenctl.gate import guard

NO_KEY = "none"
"""What clients send that insist on a key where none is asked for."""
KEY_VARIABLE = "QWENCTL_API_KEY"
IN_DOCKER = "host.docker.internal"


def _openai(where: Where) -> Advice:
    """The SDK appends paths such as ``/chat/completions`` to the base URL."""
    url = f"{where.url}/v1"
    variables = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": where.key or NO_KEY}
    return Advice(url, "OPENAI_API_KEY", variables, notes=(f"the model is called {where.model}",))


def _claude_code(where: Where) -> Advice:
    """It appends ``/v1/messages`` itself, and shows its login without any token.

    Small tasks go to the haiku model; versions that knew no such variable read ANTHROPIC_SMALL_FAST_MODEL.
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
    """It appends ``/responses``, the only API it speaks. ``env_key`` must name a variable that is set."""
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
    """It appends ``/chat/completions``. Small tasks may go to another provider unless ``small_model`` is set.

    A limit needs both numbers; a quarter of the context for an answer is our choice.
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
    """It reaches any OpenAI-compatible server through the prefix ``openai/``."""
    url = f"{where.url}/v1"
    variables = {
        "OPENAI_API_BASE": url,
        "OPENAI_API_KEY": where.key or NO_KEY,
        "AIDER_MODEL": shlex.quote(f"openai/{where.model}"),
    }
    notes = (f"or in .aider.conf.yml: openai-api-base: {url}, model: openai/{where.model}",)
    return Advice(url, "OPENAI_API_KEY", variables, notes=notes)


def _continue(where: Where) -> Advice:
    """Secrets come from ``~/.continue/.env`` or the environment of the editor."""
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
        "it goes into ~/.continue/config.yaml: the entry below models, or the whole where there is none",
    )
    if where.key is not None:
        notes += (f"the key is read from {KEY_VARIABLE}=... in ~/.continue/.env",)
    return Advice(url, KEY_VARIABLE, {}, settings, notes)


def _open_webui(where: Where) -> Advice:
    """It asks from its own server, which is in a container as a rule."""
    port = where.url.rpartition(":")[2]
    url = f"http://{IN_DOCKER}:{port}/v1"
    variables = {"OPENAI_API_BASE_URL": url, "OPENAI_API_KEY": where.key or NO_KEY}
    notes = [
        f"docker run --add-host={IN_DOCKER}:host-gateway -e OPENAI_API_BASE_URL -e OPENAI_API_KEY ...",
        "they are read at its first start; later: Settings, Admin, Connections, OpenAI",
        f"outside a container the URL is {where.url}/v1",
    ]
    if guard.is_loopback(where.host):
        notes.append(
            f"on Linux a container cannot reach {where.host}: "
            "set [server] host to an address that it reaches, and a key"
        )
    if where.rules is not None and where.key is None and not _lets_in(IN_DOCKER, where.rules):
        notes.append(
            f'set [gate] allowed_hosts = ["{IN_DOCKER}"]: the gate answers to no other name without a key'
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
        unwritten="its .aider.conf.yml is YAML, whose comments would be lost",
    ),
    "continue": Client(
        "Continue",
        "yaml",
        _continue,
        ("https://docs.continue.dev/reference", "https://docs.continue.dev/faqs"),
        unwritten="its config.yaml is YAML, whose comments would be lost",
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
    """Say how the key gets to a client whose file only names its variable."""
    if where.key is None or where.key == f'"${name}"':
        return ()
    return (f"where it runs: export {name}={where.key}",)


def _lets_in(host: str, rules: guard.Rules) -> bool:
    ask = guard.GuardQuestion("GET", "/v1/models", (host,), None, None, None, None, None, guard.KeyCheck.OPEN)
    return isinstance(guard.judge(ask, rules), guard.Enter)
