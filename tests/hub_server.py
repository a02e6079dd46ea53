# Copyright 2026 The itit_hf authors.
# SPDX-License-Identifier: Apache-2.0
"""A small server that speaks the part of the Hugging Face Hub's protocol that `huggingface_hub` pushes and loads with.

It keeps everything in memory, listens on loopback, knows models and data sets, commits, branches, tags and large files
(LFS), and fails on demand. It is for tests, and it is not the Hub: no gated repositories, no pull requests, no Xet.
"""

import base64
import hashlib
import json
import re
import socket
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from unittest.mock import patch
from urllib.parse import parse_qs, unquote, urlsplit

from huggingface_hub import constants, hf_api

TOKEN = "hf_" + "loopbackloopbackloopbackloopback00"
USER = "user"
LARGE = 100_000  # bytes from which a file is stored apart, as the Hub does from 10 MB on
_LARGE_SUFFIXES = (".safetensors", ".png", ".parquet", ".tar", ".pt", ".bin")
_KINDS = {"models": "model", "datasets": "dataset"}


def git_hash(content: bytes) -> str:
    """The object name that git gives to a file."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    content: bytes
    large: bool

    @property
    def oid(self) -> str:
        """What the Hub calls it: its sha256 if it is large, else git's name."""
        return hashlib.sha256(self.content).hexdigest() if self.large else git_hash(self.content)


@dataclass
class Repository:
    """Commits, oldest first, and the names of some of them."""

    kind: str
    name: str
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, File], message: str) -> str:
        """Put a commit of all these files on a branch."""
        tree = "".join(f"{path} {file.oid}\n" for path, file in sorted(files.items()))
        oid = hashlib.sha1(f"{len(self.commits)}\n{message}\n{tree}".encode()).hexdigest()
        self.commits[oid], self.messages[oid], self.refs[branch] = files, message, oid
        return oid

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit's own name means."""
        return self.refs.get(revision, revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        """Content of each file of the newest commit of main."""
        return {path: file.content for path, file in self.commits[self.refs["main"]].items()}


@dataclass
class Fault:
    """What goes wrong, and where.

    Args:
        place (`str`): Pattern of the requests it is for, such as `"POST .*/commit/"`.
        what (`int` or `str`): A status, or `"cut"` (no answer), `"half"` (half of the body), `"lost"` (it is done, but
            the answer is cut), `"slow"`, `"held"` (until `released` is set), `"garbage"` (an answer that is no JSON),
            `"etag"` (another file's).
        times (`int`): How often, from the first time on.
    """

    place: str
    what: int | str
    times: int = 1


class HubServer:
    """Serves on loopback within a `with`; there, `huggingface_hub` of this process talks to it and to nothing else.

    Attributes:
        repositories (`dict[str, Repository]`): By kind and name, such as `"model/user/mine"`.
        faults (`list[Fault]`): What is still to go wrong.
        requests (`list[str]`): Method and path of what was asked.
        bodies (`list[bytes]`): What was sent.
        released (`threading.Event`): Lets go of what is held.
    """

    def __init__(self, cache_dir: str | Path):
        self.lock = threading.RLock()
        self.forget(cache_dir)

    def forget(self, cache_dir: str | Path):
        """Begin anew, with another cache for what is downloaded. Other libraries keep a client for good, and with it
        the address: one server must last for a whole module of tests."""
        self.cache_dir = str(cache_dir)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[str] = []
        self.bodies: list[bytes] = []
        self.released = threading.Event()

    def __enter__(self):
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        # The library reads its environment once, when it is imported: these are what it has read.
        self.patches = [
            patch.object(constants, "ENDPOINT", self.url),
            patch.object(
                constants, "HUGGINGFACE_CO_URL_TEMPLATE", self.url + "/{repo_id}/resolve/{revision}/{filename}"
            ),
            patch.object(constants, "HF_HUB_OFFLINE", False),
            patch.object(constants, "HF_HUB_DISABLE_XET", True),
            patch.object(constants, "HF_HUB_CACHE", self.cache_dir),
            patch.object(hf_api.api, "endpoint", self.url),
            patch.dict("os.environ", {"HF_TOKEN": TOKEN}),
        ]
        for each in self.patches:
            each.start()
        return self

    def __exit__(self, *_):
        for each in self.patches:
            each.stop()
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self) -> dict[str, str]:
        """What another process needs in its environment to talk to this server."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_TOKEN": TOKEN,
            "HF_HUB_CACHE": self.cache_dir,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
        }

    def repository(self, name: str, kind: str = "model") -> Repository | None:
        """The repository of this name, if there is one."""
        return self.repositories.get(f"{kind}/{name}")

    def fault(self, request: str) -> Fault | None:
        """The next thing that goes wrong with a request, if any; it is then used up by once."""
        with self.lock:
            for fault in self.faults:
                if fault.times and re.search(fault.place, request):
                    fault.times -= 1
                    return fault
        return None


class _Answer(Exception):
    """Ends the handling of a request."""

    def __init__(self, status: int, content: bytes | dict | list = b"", headers: dict | None = None):
        self.status, self.headers = status, dict(headers or {})
        self.content = content if isinstance(content, bytes) else json.dumps(content).encode()


def _error(status: int, code: str, message: str) -> _Answer:
    return _Answer(status, {"error": message}, {"X-Error-Code": code, "X-Error-Message": message})


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    _routes = (
        ("GET", r"/api/whoami-v2", "_who_am_i"),
        ("POST", r"/api/validate-yaml", "_validate"),
        ("POST", r"/api/repos/create", "_create"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/preupload/(?P<revision>.+)", "_preupload"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/commit/(?P<revision>.+)", "_commit"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/(?P<what>branch|tag)/(?P<ref>.+)", "_refer"),
        ("POST", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/paths-info/(?P<revision>.+)", "_paths_info"),
        (
            "GET",
            r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)/?(?P<path>.*)",
            "_tree",
        ),
        ("GET", r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)(/revision/(?P<revision>.+))?", "_info"),
        ("POST", r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "_batch"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "_store"),
        ("POST", r"/lfs/(?P<oid>[0-9a-f]{64})/verify", "_verify"),
        ("GET", r"/(?P<kind>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "_resolve"),
    )

    def log_message(self, *_):
        """Tests read `hub.requests`."""

    def _serve(self):
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        self.query = parse_qs(parts.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.bodies.append(self.body)
        fault = self.hub.fault(self.hub.requests[-1])
        what = None if fault is None else fault.what
        if what == "cut":
            self._cut()
            return
        if isinstance(what, int):
            answer = _Answer(what, {"error": "as it was told to"}, {"Retry-After": "0"})
        else:
            if what == "slow":
                time.sleep(0.1)
            if what == "held":
                self.hub.released.wait(60)
            answer = self._handle(path)
        self._send(answer, what)

    do_GET = do_POST = do_PUT = do_HEAD = _serve

    def _handle(self, path: str) -> _Answer:
        method = "GET" if self.command == "HEAD" else self.command
        try:
            if self.headers.get("Authorization") not in (f"Bearer {TOKEN}", None):
                return _error(401, "", "Invalid username or password.")
            for wanted, pattern, name in self._routes:
                match = re.fullmatch(pattern, path)
                if match and wanted == method:
                    with self.hub.lock:
                        return getattr(self, name)(**match.groupdict())
        except _Answer as answer:
            return answer
        return _error(404, "RepoNotFound", f"no such address: {method} {path}")

    def _send(self, answer: _Answer, what: str | None):
        if what == "lost":
            self._cut()
            return
        if what == "garbage":
            answer.content = b"<html>maintenance</html>"
        if what == "etag":
            answer.headers["ETag"] = f'"{"0" * 40}"'
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        self.wfile.write(answer.content[: len(answer.content) // 2] if what == "half" else answer.content)
        if what == "half":
            self.wfile.flush()
            self._cut()

    def _cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _must_write(self):
        if self.headers.get("Authorization") is None:
            raise _error(401, "", "Invalid username or password.")

    def _find(self, kind: str | None, name: str, revision: str | None = None) -> tuple[Repository, str]:
        repository = self.hub.repository(name, "dataset" if kind and kind.startswith("dataset") else "model")
        if repository is None:
            raise _error(404, "RepoNotFound", "Repository not found")
        commit = repository.resolve(unquote(revision or "main"))
        if commit is None:
            raise _error(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return repository, commit

    def _who_am_i(self):
        self._must_write()
        return _Answer(200, {"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def _validate(self):
        return _Answer(200, {"errors": [], "warnings": []})

    def _create(self):
        self._must_write()
        asked = json.loads(self.body)
        kind = asked.get("type", "model")
        name = f"{asked.get('organization') or USER}/{asked['name']}"
        url = f"{self.hub.url}/{'' if kind == 'model' else kind + 's/'}{name}"
        if self.hub.repository(name, kind) is not None:
            return _Answer(409, {"error": "You already created this repo", "url": url})
        repository = self.hub.repositories[f"{kind}/{name}"] = Repository(kind, name)
        attributes = b"".join(
            f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n".encode() for suffix in _LARGE_SUFFIXES
        )
        repository.commit("main", {".gitattributes": File(attributes, False)}, "initial commit")
        return _Answer(200, {"url": url, "name": name, "id": name})

    def _preupload(self, kind, name, revision):
        self._must_write()
        repository, commit = self._find(kind, name, revision)
        files = []
        for asked in json.loads(self.body)["files"]:
            large = asked["size"] >= LARGE or asked["path"].endswith(_LARGE_SUFFIXES)
            there = repository.commits[commit].get(asked["path"])
            mode = {"path": asked["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
            files.append(mode | ({"oid": there.oid} if there else {}))
        return _Answer(200, {"files": files})

    def _batch(self, kind, name):
        self._must_write()
        self._find(kind, name)
        objects = []
        for asked in json.loads(self.body)["objects"]:
            each = {"oid": asked["oid"], "size": asked["size"]}
            if asked["oid"] not in self.hub.objects:
                address = f"{self.hub.url}/lfs/{asked['oid']}"
                each["actions"] = {"upload": {"href": address}, "verify": {"href": f"{address}/verify"}}
            objects.append(each)
        return _Answer(200, {"transfer": "basic", "objects": objects})

    def _store(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            return _error(400, "", "the object has another sha256")
        self.hub.objects[oid] = self.body
        return _Answer(200)

    def _verify(self, oid):
        whole = len(self.hub.objects.get(oid, b"")) == json.loads(self.body)["size"]
        return _Answer(200, {}) if whole else _error(404, "", "no such object")

    def _commit(self, kind, name, revision):
        self._must_write()
        repository, parent = self._find(kind, name, revision)
        files = dict(repository.commits[parent])
        message = ""
        for line in self.body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.objects:
                    return _error(400, "", f"the object of {value['path']} was not uploaded")
                files[value["path"]] = File(self.hub.objects[value["oid"]], True)
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
            else:
                folder = PurePosixPath(value["path"])
                files = {path: file for path, file in files.items() if folder not in PurePosixPath(path).parents}
        oid = repository.commit(unquote(revision), files, message)
        return _Answer(200, {"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{name}/commit/{oid}"})

    def _refer(self, kind, name, what, ref):
        self._must_write()
        asked = json.loads(self.body or b"{}")
        start = asked.get("startingPoint") if what == "branch" else ref
        repository, commit = self._find(kind, name, start)
        repository.refs[ref if what == "branch" else asked["tag"]] = commit
        return _Answer(200, {})

    def _entry(self, path: str, file: File) -> dict:
        entry = {"type": "file", "path": path, "size": len(file.content), "oid": git_hash(file.content)}
        return entry | (
            {"lfs": {"oid": file.oid, "size": len(file.content), "pointerSize": 130}} if file.large else {}
        )

    def _paths_info(self, kind, name, revision):
        repository, commit = self._find(kind, name, revision)
        asked = parse_qs(self.body.decode()).get("paths", [])
        if self.headers.get("Content-Type", "").startswith("application/json"):
            asked = json.loads(self.body)["paths"]
        files = repository.commits[commit]
        found = [self._entry(path, files[path]) for path in asked if path in files]
        folders = [path for path in asked if any(PurePosixPath(path) in PurePosixPath(each).parents for each in files)]
        return _Answer(200, found + [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders])

    def _tree(self, kind, name, revision, path):
        repository, commit = self._find(kind, name, revision)
        recursive = self.query.get("recursive", ["false"])[0].lower() in ("true", "1")
        folder, entries = PurePosixPath(path or "."), {}
        for each, file in sorted(repository.commits[commit].items()):
            parents = list(PurePosixPath(each).parents)
            if folder not in parents:
                continue
            below = parents[: parents.index(folder)]  # folders between the file and the one asked for
            for parent in below if recursive else below[-1:]:
                entries[str(parent)] = {"type": "directory", "path": str(parent), "oid": "0" * 40, "size": 0}
            if recursive or not below:
                entries[each] = self._entry(each, file)
        if path and not entries:
            return _error(404, "EntryNotFound", f"{path} does not exist on {revision}")
        return _Answer(200, list(entries.values()))

    def _info(self, kind, name, revision):
        repository, commit = self._find(kind, name, revision)
        files = [{"rfilename": path} for path in sorted(repository.commits[commit])]
        info = {"_id": "0", "id": name, "sha": commit, "private": False, "tags": [], "downloads": 0, "likes": 0}
        return _Answer(
            200, info | {"siblings": files, _KINDS[kind] + "Id": name, "lastModified": "2026-01-01T00:00:00.000Z"}
        )

    def _resolve(self, kind, name, revision, path):
        repository, commit = self._find(kind, name, revision)
        file = repository.commits[commit].get(path)
        headers = {"X-Repo-Commit": commit}
        if file is None:
            answer = _error(404, "EntryNotFound", "Entry not found")
            answer.headers |= headers
            return answer
        headers |= {"ETag": f'"{file.oid}"', "Accept-Ranges": "bytes"}
        content, status = file.content, 200
        start = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if start:  # a download that was cut goes on where it was
            end = int(start[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {start[1]}-{end}/{len(content)}"
            content, status = content[int(start[1]) : end + 1], 206
        return _Answer(status, content, headers)
