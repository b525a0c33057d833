"""What leaves the machine in a bundle: never a key, a token, a prompt or the user's name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qwenctl.service.redact import REPLACEMENT, Private, redact, secrets_in
from qwenctl.settings.key_file import parse_keys

PRIVATE = Private(("sesame-open",), "ada", "/home/ada")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("GET /v1/models key=sesame-open", f"GET /v1/models key={REPLACEMENT}"),
        ("Authorization: Bearer abc.def", f"Authorization: {REPLACEMENT}"),
        ("env HF_TOKEN=hf_abcdefghij x", f"env HF_TOKEN={REPLACEMENT} x"),
        ("got hf_abcdefghij from it", f"got {REPLACEMENT} from it"),
        ("sk-abcdefghijkl", REPLACEMENT),
        ('"api_key": "verysecret"', f'"api_key": "{REPLACEMENT}"'),
        ('["--api-key", "verysecret"]', f'["--api-key", "{REPLACEMENT}"]'),
        ("proxy http://me:pw@proxy:3128/", f"proxy http://{REPLACEMENT}@proxy:3128/"),
        (
            'request: {"model": "x", "messages": [{"role"',
            f'request: {{"model": "x", "messages": {REPLACEMENT}',
        ),
        ("'prompt': 'Dear diary'", f"'prompt': {REPLACEMENT}"),
        ('"system": "You keep a diary"', f'"system": {REPLACEMENT}'),
        ('{"system": [{"type": "text",', f'{{"system": {REPLACEMENT}'),
        (' "system": {', ' "system": {'),
        ('"system": {"text": "dear"}', f'"system": {{"text": {REPLACEMENT}'),
        ("/home/ada/models/x.gguf", "~/models/x.gguf"),
        ("/home/bob/x and /Users/carol/y", "/home/USER/x and /Users/USER/y"),
        ("pid 1 of ada started", "pid 1 of USER started"),
        ('"server.api_key_file": "/etc/qwenctl/keys"', '"server.api_key_file": "/etc/qwenctl/keys"'),
        ("prompt processing, n_tokens = 512", "prompt processing, n_tokens = 512"),
        ("n_ctx = 65536 tokens", "n_ctx = 65536 tokens"),
    ],
)
def test_what_is_private_goes_and_the_rest_stays(text: str, clean: str) -> None:
    assert redact(text, PRIVATE) == clean


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_secret_survives_wherever_it_stands(before: str, after: str) -> None:
    assert secrets_in(redact(before + PRIVATE.secrets[0] + after, PRIVATE), PRIVATE) == ()


def test_a_key_file_has_a_key_a_line() -> None:
    assert parse_keys("# mine\nsesame-open\n\n other \n") == ("sesame-open", "other")
