"""The Hub with its write side, on this machine: what the real client asks for when it makes and fills repositories.

It extends the stand-in that stands beside a checkout, which knows the read side. A repository has branches; each commit
is a folder of its own, so that an earlier one can still be read. Tokens: `hf_write` may write to the namespace `me`,
`hf_read` may only read, and any other is refused.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

WRITER, READER = "hf_write", "hf_read"
MINE = "me"
LARGE = (".safetensors", ".onnx", ".zip", ".png")
MODEL = r"^/api/models/([^/]+/[^/]+)"
COMMIT = re.compile(r"[0-9a-f]{40}")


class Repository:
    """A repository: branch -> commit, and a folder for each commit."""

    def __init__(self, folder: Path, private: bool) -> None:
        self.folder = folder
        self.private = private
        self.branches: dict[str, str] = {}
        self.number_of_commits = 0

    def commit(self, branch: str, before: str | None) -> Path:
        """Begin a commit on a branch; returns its folder with what was there before."""
        self.number_of_commits += 1
        name = hashlib.sha1(f"{self.folder} {self.number_of_commits}".encode()).hexdigest()
        new = self.folder / name
        if before is None:
            new.mkdir(parents=True)
        else:
            shutil.copytree(self.folder / before, new)
        self.branches[branch] = name
        return new


class Hub:
    """The repositories of a Hub and the requests that it got."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.fails: dict[str, int] = {}
        """A part of a path -> the status with which requests for it fail."""
        self.endpoint = ""

    def create(self, name: str, private: bool = False) -> Repository:
        repository = self.repositories[name] = Repository(self.root / "models" / name, private)
        (repository.commit("main", None) / ".gitattributes").write_text("*.onnx filter=lfs\n")
        return repository

    def add(self, name: str, files: dict[str, bytes]) -> None:
        """Put files into the main branch of a repository, as somebody else would."""
        repository = self.repositories[name]
        folder = repository.commit("main", repository.branches["main"])
        for path, content in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)

    def files(self, name: str, branch: str = "main") -> dict[str, bytes]:
        repository = self.repositories[name]
        folder = repository.folder / repository.branches[branch]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def handler_of(shared: Path, hub: Hub) -> Any:
    """The class that answers requests."""
    spec = importlib.util.spec_from_file_location("local_hub", shared / "tools/local_hub.py")
    assert spec is not None
    assert spec.loader is not None
    local_hub = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(local_hub)

    class Handler(local_hub.Handler):  # type: ignore[name-defined, misc]
        root = hub.root
        body = b""
        commit: str | None = None

        def handle_request(self) -> None:
            self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = unquote(urlparse(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            for part, status in hub.fails.items():
                if part in path:
                    return self.refuse(status)
            for method, pattern, answer in ROUTES:
                if self.command == method and (match := re.match(pattern, path)):
                    return getattr(self, answer)(*match.groups())
            return self.read(path)

        do_GET = do_HEAD = do_POST = do_PUT = handle_request

        def answer(self, code: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
            if headers and "X-Repo-Commit" in headers:
                headers["X-Repo-Commit"] = str(self.commit)
            super().answer(code, body, headers)

        def refuse(self, status: int, what: str = "") -> None:
            self.answer(status, json.dumps({"error": what or "no"}).encode(), {"X-Error-Code": what} if what else {})

        def token(self) -> str:
            return str(self.headers.get("Authorization", "")).removeprefix("Bearer ")

        def may_write(self, namespace: str) -> bool:
            """Whether the request may change something; if not, it has been refused."""
            if self.token() not in (WRITER, READER):
                self.refuse(401)
            elif self.token() == READER or namespace != MINE:
                self.refuse(403)
            else:
                return True
            return False

        # Reading

        def read(self, path: str) -> None:
            match = re.match(MODEL + "(?:/(?:revision|tree|paths-info)/([^/]+))?", path) or re.match(
                r"^/([^/]+/[^/]+)/resolve/([^/]+)", path
            )
            repository = hub.repositories.get(match[1]) if match else None
            if match is None or repository is None or (repository.private and self.token() not in (WRITER, READER)):
                return self.refuse(404, "RepoNotFound")
            revision = match[2] or "main"
            self.commit = repository.branches.get(revision, revision if COMMIT.fullmatch(revision) else None)
            if self.commit is None or not (repository.folder / self.commit).is_dir():
                return self.refuse(404, "RevisionNotFound")
            folder = repository.folder / self.commit
            if found := re.match(r"^/[^/]+/[^/]+/resolve/[^/]+/(.*)$", path):
                return self.resolve(folder, folder / found[1])
            if found := re.match(MODEL + "/(tree|paths-info)/[^/]+(?:/(.*))?$", path):
                return self.api(folder, found[1], found[2], found[3], self.body)
            names = [file.relative_to(folder).as_posix() for file in local_hub.list_files(folder)]
            return self.answer_json(
                {
                    "_id": "1", "id": match[1], "sha": self.commit, "private": repository.private, "tags": [],
                    "gated": False, "disabled": False, "downloads": 0, "likes": 0,
                    "lastModified": "2024-01-01T00:00:00.000Z", "siblings": [{"rfilename": name} for name in names],
                }
            )  # fmt: skip

        # Writing

        def create(self) -> None:
            value = json.loads(self.body)
            namespace, name = value.get("organization") or MINE, value["name"]
            if not self.may_write(namespace):
                return
            if f"{namespace}/{name}" in hub.repositories:
                return self.refuse(409)
            private = value.get("visibility") == "private" or value.get("private") is True
            hub.create(f"{namespace}/{name}", private)
            self.answer_json({"url": f"{hub.endpoint}/{namespace}/{name}", "id": "1"})

        def branch(self, name: str, branch: str) -> None:
            if not self.may_write(name.split("/")[0]):
                return
            repository = hub.repositories[name]
            if branch in repository.branches:
                return self.refuse(409)
            start = json.loads(self.body or b"{}").get("startingPoint") or repository.branches["main"]
            repository.branches[branch] = repository.branches.get(start, start)
            self.answer_json({})

        def validate(self) -> None:
            import yaml

            content = json.loads(self.body)["content"]
            metadata = yaml.safe_load(content.split("---\n")[1])
            errors = (
                [] if isinstance(metadata, dict) and metadata.get("model-index") else [{"message": "no model-index"}]
            )
            body = json.dumps({"errors": errors, "warnings": []}).encode()
            self.answer(400 if errors else 200, body, {"Content-Type": "application/json"})

        def preupload(self, name: str, branch: str) -> None:
            if not self.may_write(name.split("/")[0]):
                return
            files = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                    "shouldIgnore": False,
                }
                for file in json.loads(self.body)["files"]
            ]
            self.answer_json({"files": files})

        def batch(self, name: str) -> None:
            if not self.may_write(name.split("/")[0]):
                return
            objects = [
                {"oid": one["oid"], "size": one["size"]}
                | (
                    {}
                    if one["oid"] in hub.objects
                    else {
                        "actions": {
                            "upload": {"href": f"{hub.endpoint}/store/{one['oid']}"},
                            "verify": {"href": f"{hub.endpoint}/verify"},
                        }
                    }
                )
                for one in json.loads(self.body)["objects"]
            ]
            self.answer_json({"transfer": "basic", "objects": objects})

        def store(self, oid: str) -> None:
            if hashlib.sha256(self.body).hexdigest() != oid:
                return self.refuse(400)
            hub.objects[oid] = self.body
            self.answer(200)

        def verify(self) -> None:
            value = json.loads(self.body)
            stored = hub.objects.get(value["oid"])
            self.answer(200 if stored is not None and len(stored) == value["size"] else 404)

        def change(self, name: str, branch: str) -> None:
            if not self.may_write(name.split("/")[0]):
                return
            lines = [json.loads(line) for line in self.body.splitlines()]
            repository = hub.repositories[name]
            before = repository.branches[branch]
            if lines[0]["value"].get("parentCommit") not in (None, before):
                return self.refuse(412)
            folder = repository.commit(branch, before)
            for line in lines[1:]:
                value, path = line["value"], folder / line["value"]["path"]
                path.parent.mkdir(parents=True, exist_ok=True)
                if line["key"] == "file":
                    path.write_bytes(base64.b64decode(value["content"]))
                elif line["key"] == "lfsFile":
                    path.write_bytes(hub.objects[value["oid"]])
                elif line["key"] == "deletedFile":
                    path.unlink()
                else:
                    return self.refuse(400)
            url = f"{hub.endpoint}/{name}/commit/{folder.name}"
            self.answer_json({"commitUrl": url, "commitOid": folder.name, "pullRequestUrl": None})

    return Handler


ROUTES = (
    ("POST", r"^/api/repos/create$", "create"),
    ("POST", r"^/api/validate-yaml$", "validate"),
    ("POST", MODEL + "/branch/(.+)$", "branch"),
    ("POST", MODEL + "/preupload/(.+)$", "preupload"),
    ("POST", MODEL + "/commit/(.+)$", "change"),
    ("POST", r"^/([^/]+/[^/]+)\.git/info/lfs/objects/batch$", "batch"),
    ("PUT", r"^/store/([0-9a-f]{64})$", "store"),
    ("POST", r"^/verify$", "verify"),
)


@contextmanager
def serve_hub(root: Path, shared: Path) -> Iterator[Hub]:
    """A Hub on this machine, as long as the block runs."""
    hub = Hub(root)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(shared, hub))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
