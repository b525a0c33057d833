"""A llama-server that a browser downloaded is named as such, with the line that helps."""

from tests.darwin.mac import Mac

KILLED = "#!/bin/sh\nkill -9 $$\n"
"""What Gatekeeper does to a marked program that is started from a shell: nothing is printed."""


def test_a_program_in_quarantine_is_named_with_the_way_out(bare_mac: Mac) -> None:
    program = bare_mac.path / "Down loads/llama-b1/llama-server"
    program.parent.mkdir(parents=True)
    program.write_text(KILLED)
    program.chmod(0o755)
    server = {"QWENCTL_SERVER__BINARY": str(program)}

    bare_mac.change(quarantined=[str(program.parent)])
    error = bare_mac.json("plan", "--profile", "demo", **server)["error"]
    assert error["code"] == "no_server"
    assert "a browser downloaded it" in error["message"]
    assert error["hint"] == f"xattr -dr com.apple.quarantine '{program.parent}'"

    bare_mac.change(quarantined=[])
    error = bare_mac.json("plan", "--profile", "demo", **server)["error"]
    assert "the system killed it (SIGKILL)" in error["message"]
    assert "codesign" in error["hint"]
