"""Shape a plan as ``--json`` prints it (schema 1). Pure: no I/O."""

from dataclasses import asdict

from qwenctl.plan.outcome import Considered, NoFit, Plan


def to_json(plan: Plan, argv: tuple[str, ...] = ()) -> dict[str, object]:
    """Return the ``data`` of ``plan --json``. The caller fills in the command line."""
    return {
        "profile": plan.profile,
        "quant": plan.quant,
        "repo": plan.repo,
        "revision": plan.revision,
        "files": [{"name": file.name, "bytes": file.bytes, "sha256": file.sha256} for file in plan.files],
        "context_tokens": plan.context_tokens,
        "kv_type": plan.kv_type,
        "parallel": plan.parallel,
        "cache_ram_mib": plan.cache_ram_mib,
        "checkpoints": plan.checkpoints,
        "verdict": plan.verdict,
        "fix": plan.fix,
        "devices": list(plan.devices),
        "memory": asdict(plan.memory) | {"devices": [asdict(device) for device in plan.memory.devices]},
        "speed": asdict(plan.speed) if plan.speed else None,
        "argv": list(argv),
        "considered": considered_to_json(plan.considered),
        "warnings": list(plan.warnings),
    }


def no_fit_to_json(outcome: NoFit) -> dict[str, object]:
    """Return the ``data`` of ``plan --json`` when nothing fits; the envelope's error says the rest."""
    return {
        "profile": outcome.profile,
        "sibling": outcome.sibling,
        "considered": considered_to_json(outcome.considered),
    }


def considered_to_json(considered: tuple[Considered, ...]) -> list[dict[str, object]]:
    """Return every candidate with its verdict and reason."""
    return [asdict(one) for one in considered]
