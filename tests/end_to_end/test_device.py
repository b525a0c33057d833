"""A device that is no CPU: an RPC worker on loopback, planned for, used, and compared with the plan."""

from tests.fakes.home import Home


def test_the_plan_is_for_the_device_and_the_load_is_compared_with_it(built_home: Home, device: str) -> None:
    plan = built_home.json("plan", "--profile", "demo", "--ctx", "4096")[
        "data"
    ]  # a worker has one client at a time
    built_home.up("--ctx", "4096")
    assert plan["devices"] == ["RPC0"]
    assert device in plan["argv"]
    memory = built_home.json("status")["data"]["memory"]
    assert memory["predicted_bytes"] == plan["memory"]["device_bytes"]
    assert memory["actual_bytes"] > 0
    assert abs(memory["error_percent"]) < 5  # 11 MiB in all: a rounded log line is a large part of it


def test_a_gpu_that_is_required_must_be_there(home: Home) -> None:
    ran = home.run("up", "--profile", "demo", QWENCTL_HARDWARE__GPU="required")
    assert ran.code == 4
    assert ran.err.startswith("cannot use a GPU: ")


def test_a_gpu_that_is_off_is_left_alone(built_home: Home, device: str) -> None:
    del device
    built_home.environment["QWENCTL_HARDWARE__GPU"] = "off"
    built_home.up()
    plan = built_home.json("plan")["data"]
    assert plan["devices"] == []
    assert plan["argv"][plan["argv"].index("--device") + 1] == "none"
