"""An in-process Kubernetes API for Jobs: watches, versions, conflicts, expiry, and pods that really run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from kubernetes_node import Container, Node, as_json
from kubernetes_objects import Objects, Refusal, Thing

KINDS = {"jobs": "Job", "pods": "Pod", "configmaps": "ConfigMap", "events": "Event", "deployments": "Deployment"}
TOKEN = "token-1"


class KubernetesApi:
    """The server. Attributes that tests set make it refuse or break.

    Attributes:
        token: what it accepts as bearer token.
        forbidden: pairs of verb and resource that the caller's Role lacks.
        failing: HTTP status of every response, while it is set.
        quota: message of a used-up quota for Jobs, while it is set.
        calls: verb and resource of each call.
        log_breaks_after: lines after which the connection of the next log breaks.
    """

    def __init__(self, folder: Path) -> None:
        self.objects = Objects()
        self.node = Node(self.objects, folder)
        self.token = TOKEN
        self.forbidden: set[tuple[str, str]] = set()
        self.failing: int | None = None
        self.quota: str | None = None
        self.calls: list[tuple[str, str]] = []
        self.log_breaks_after: int | None = None
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def start(self, port: int = 0) -> None:
        app = web.Application(middlewares=[self._guarded])
        for root in ("/api/v1", "/apis/batch/v1", "/apis/apps/v1"):
            base = root + "/namespaces/{namespace}/{resource}"
            app.router.add_get(base, self._list)
            app.router.add_post(base, self._create)
            app.router.add_get(base + "/{name}", self._get)
            app.router.add_delete(base + "/{name}", self._delete)
            app.router.add_patch(base + "/{name}", self._patch)
            app.router.add_get(base + "/{name}/log", self._log)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop answering; pods go on."""
        self.objects.close_watches()
        if self._runner is not None:
            await self._runner.cleanup()

    async def close(self) -> None:
        await self.stop()
        await self.node.close()

    def kubeconfig(self, folder: Path, namespace: str = "jobs") -> Path:
        """Write a kubeconfig for this server."""
        file = folder / "kubeconfig"
        file.write_text(
            f"current-context: here\n"
            f"contexts: [{{name: here, context: {{cluster: here, user: me, namespace: {namespace}}}}}]\n"
            f"clusters: [{{name: here, cluster: {{server: '{self.url}'}}}}]\n"
            f"users: [{{name: me, user: {{tokenFile: token}}}}]\n"
        )
        (folder / "token").write_text(self.token)
        return file

    @web.middleware
    async def _guarded(self, request: web.Request, handler: object) -> web.StreamResponse:
        resource = request.match_info.get("resource", "")
        if request.path.endswith("/log"):
            resource = "pods/log"
        verb = _verb(request)
        self.calls.append((verb, resource))
        try:
            if self.failing is not None:
                raise Refusal(self.failing, "Failing", "the server is made to fail")
            if request.headers.get("Authorization") != f"Bearer {self.token}":
                raise Refusal(401, "Unauthorized", "Unauthorized")
            if (verb, resource) in self.forbidden:
                namespace = request.match_info["namespace"]
                message = (
                    f'{resource} is forbidden: User "me" cannot {verb} resource "{resource}" in "{namespace}"'
                )
                raise Refusal(403, "Forbidden", message)
            return await handler(request)  # type: ignore[operator, no-any-return]
        except Refusal as refusal:
            return web.json_response(refusal.body, status=refusal.status)

    async def _create(self, request: web.Request) -> web.StreamResponse:
        resource = request.match_info["resource"]
        if resource == "jobs" and self.quota:
            raise Refusal(403, "Forbidden", self.quota)
        return web.json_response(self.objects.create(resource, await request.json()), status=201)

    async def _get(self, request: web.Request) -> web.StreamResponse:
        found = request.match_info
        return web.json_response(self.objects.get(found["resource"], found["namespace"], found["name"]))

    async def _patch(self, request: web.Request) -> web.StreamResponse:
        found = request.match_info
        patch = await request.json()
        self.objects.get(found["resource"], found["namespace"], found["name"])

        def change(thing: Thing) -> None:
            thing["spec"] |= patch["spec"]

        self.objects.update(found["resource"], found["namespace"], found["name"], change)
        return web.json_response(self.objects.get(found["resource"], found["namespace"], found["name"]))

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        found = request.match_info
        resource, namespace, name = found["resource"], found["namespace"], found["name"]
        thing = self.objects.get(resource, namespace, name)
        options = await request.json() if request.can_read_body else {}
        if resource == "jobs":
            self.node.in_background(
                self.node.delete_job(namespace, name, options.get("propagationPolicy", "Background"))
            )
        else:
            self.node.in_background(self.node.end_pod(namespace, name, options.get("gracePeriodSeconds")))
        return web.json_response(thing)

    async def _list(self, request: web.Request) -> web.StreamResponse:
        resource, namespace = request.match_info["resource"], request.match_info["namespace"]
        labels = dict(each.split("=", 1) for each in request.query.get("labelSelector", "").split(",") if each)
        if request.query.get("watch") != "true":
            items = self.objects.list(resource, namespace, labels)
            limit, start = int(request.query.get("limit", "500")), int(request.query.get("continue", "0"))
            metadata = {"resourceVersion": str(self.objects.version)}
            if start + limit < len(items):
                metadata["continue"] = str(start + limit)
            page = items[start : start + limit]
            return web.json_response({"kind": f"{KINDS[resource]}List", "metadata": metadata, "items": page})
        version = int(request.query["resourceVersion"])
        events = self.objects.watch(
            resource, namespace, labels, version, float(request.query.get("timeoutSeconds", "60"))
        )
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        try:
            async for event in events:
                await response.write(as_json(event) + b"\n")
        except Refusal as refusal:
            await response.write(as_json({"type": "ERROR", "object": refusal.body}) + b"\n")
        return response

    async def _log(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        self.objects.get("pods", namespace, name)
        which = name if request.query.get("container") == "program" else f"{name}/result"
        container = self.node.containers.get((namespace, which))
        if container is None:
            raise Refusal(400, "BadRequest", f'container in pod "{name}" is waiting to start: ContainerCreating')
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        # As kubelet gets it: whole seconds.
        since = request.query.get("sinceTime", "")[:19]
        sent, breaks = 0, self.log_breaks_after
        async for stamp, text in _lines(container):
            if stamp[:19] >= since:
                await response.write(f"{stamp} {text}\n".encode())
                sent += 1
            if breaks is not None and sent >= breaks:
                self.log_breaks_after = None
                assert request.transport is not None
                request.transport.close()
                break
        return response


async def _lines(container: Container) -> AsyncIterator[tuple[str, str]]:
    sent = 0
    while True:
        changed = container.changed
        for line in container.lines[sent:]:
            sent += 1
            yield line
        if container.is_over and sent == len(container.lines):
            return
        await changed.wait()


def _verb(request: web.Request) -> str:
    if request.method == "GET":
        if request.query.get("watch") == "true":
            return "watch"
        return "get" if "name" in request.match_info else "list"
    return {"POST": "create", "DELETE": "delete", "PATCH": "patch"}[request.method]


@asynccontextmanager
async def kubernetes_api(folder: Path) -> AsyncIterator[KubernetesApi]:
    """A server that runs while the context does."""
    api = KubernetesApi(folder)
    await api.start()
    try:
        yield api
    finally:
        await api.close()
        await asyncio.sleep(0)
