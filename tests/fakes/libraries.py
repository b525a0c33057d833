"""The folders that other programs keep models in, as they leave them: layouts, tables, names."""

import hashlib
import json
import os
from pathlib import Path

from tests.fakes.gguf_file import write_gguf

COMMIT, LATER = "1" * 40, "2" * 40


def content(folder: Path, seed: int, architecture: str = "llama") -> bytes:
    """A small GGUF file; ``seed`` makes it one of its own."""
    path = folder / f"content-{seed}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_gguf(path, bytes_=20_000 + 1024 * seed, architecture=architecture)
    return path.read_bytes()


def put_in_hub(cache: Path, repo: str, name: str, data: bytes, commit: str = COMMIT) -> Path:
    """What ``hf download`` and ``llama-server -hf`` leave. Return the link."""
    folder = cache / f"models--{repo.replace('/', '--')}"
    sha256 = hashlib.sha256(data).hexdigest()
    blob, link = folder / "blobs" / sha256, folder / "snapshots" / commit / name
    for path in (blob, link, folder / "refs/main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    (folder / "refs/main").write_text(commit)
    link.symlink_to(os.path.relpath(blob, link.parent))
    return link


def put_in_llama_cpp(cache: Path, repo: str, name: str, tag: str, data: bytes) -> Path:
    """What ``llama-server -hf`` left before it took the hub's layout. Return the file."""
    cache.mkdir(parents=True, exist_ok=True)
    owner, short = repo.split("/")
    path = cache / f"{owner}_{short}_{name.replace('/', '_')}"
    path.write_bytes(data)
    path.with_name(f"{path.name}.json").write_text('{"etag": "x", "url": "y"}')
    table = {"ggufFile": {"rfilename": name, "size": len(data)}}
    (cache / f"manifest={owner}={short}={tag}.json").write_text(json.dumps(table))
    return path


def put_in_lm_studio(models: Path, repo: str, name: str, data: bytes) -> Path:
    """OWNER/REPO/FILE. Return the file."""
    path = models / repo / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def put_in_ollama(models: Path, name: str, tag: str, data: bytes, **changes: object) -> Path:
    """A manifest of Ollama's library with its blobs. Return the manifest."""
    blobs = models / "blobs"
    blobs.mkdir(parents=True, exist_ok=True)
    table = json.dumps({"model_family": "llama", "model_type": "135M", "file_type": "Q4_1"}).encode()
    digests = []
    for part in (table, data, b"a template"):
        sha256 = hashlib.sha256(part).hexdigest()
        (blobs / f"sha256-{sha256}").write_bytes(part)
        digests.append(f"sha256:{sha256}")
    kind = "application/vnd.ollama.image"
    manifest = {
        "schemaVersion": 2,
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": digests[0]},
        "layers": [
            {"mediaType": f"{kind}.model", "digest": digests[1], "size": len(data)},
            {"mediaType": f"{kind}.template", "digest": digests[2], "size": 10},
        ],
    }
    path = models / "manifests/registry.ollama.ai/library" / name / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest | changes))
    return path
