"""The Model Context Protocol: a tool that generates an image, and resources for what it has made.

The tool's parameters are those of the wire contract, so its schema comes from there.
"""

from __future__ import annotations

import base64
import json
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.from_thread
import anyio.to_thread
import mcp_types as types
import msgspec
from mcp.server import Server, ServerRequestContext
from mcp.shared.exceptions import MCPError

from lambdiff._version import __version__
from lambdiff.client.client import Client
from lambdiff.client.image import SUFFIXES, GeneratedImage
from lambdiff.engine.cancellation import cancelled_if
from lambdiff.errors import InvalidRequest, LambdiffError, OutputError
from lambdiff.gateway.errors import GatewayError
from lambdiff.gateway.generator import Budget
from lambdiff.protocol import pictures
from lambdiff.protocol.contract import GenerateRequest
from lambdiff.protocol.headers import MEDIA_TYPES
from lambdiff.protocol.validation import raise_for

TOOL: Final = "generate_image"
SCHEME: Final = "lambdiff://images/"
KEPT: Final = 50
"""How many images stay available as resources."""
_FILE_NAME: Final = {
    "type": "string",
    "description": "Save the image in the server's folder under this name, such as cat.png. Existing files are kept.",
}
_NOT_OFFERED: Final = (*pictures.KINDS, "strength", "image_format")
"""Parameters that a language model cannot give, or that the file name decides."""
_INSTRUCTIONS: Final = (
    "Generates images from English descriptions with a diffusion model. Describe what the image shows, not what to do."
)


class ImageTools:
    """The tools and resources of one server.

    Args:
        client: generates the images.
        folder: where images are saved; None if they are not.
        budget: how many images may be generated.

    Attributes:
        server: speaks the protocol; runs on stdio, or behind the gateway.
    """

    def __init__(self, client: Client, folder: Path | None = None, budget: Budget | None = None) -> None:
        self._client = client
        self._folder = folder
        self._budget = budget or Budget(None)
        self._images: OrderedDict[str, GeneratedImage] = OrderedDict()
        self._made = 0
        self.server: Server[Any] = Server(
            "lambdiff",
            version=__version__,
            instructions=_INSTRUCTIONS,
            on_list_tools=self._list_tools,
            on_call_tool=self._call_tool,
            on_list_resources=self._list_resources,
            on_read_resource=self._read_resource,
        )

    async def _list_tools(self, _context: ServerRequestContext[Any], _params: Any) -> types.ListToolsResult:
        tool = types.Tool(
            name=TOOL,
            title="Generate an image",
            description="Generate one image from a description. The same seed and parameters give the same image.",
            input_schema=_schema(saving=self._folder is not None),
            annotations=types.ToolAnnotations(read_only_hint=False, destructive_hint=False, open_world_hint=False),
        )
        return types.ListToolsResult(tools=[tool])

    async def _call_tool(
        self, context: ServerRequestContext[Any], params: types.CallToolRequestParams
    ) -> types.CallToolResult:
        if params.name != TOOL:
            raise MCPError(code=types.INVALID_PARAMS, message=f"There is no tool {params.name!r}.")
        try:
            return await self._generate(context, dict(params.arguments or {}))
        except (LambdiffError, GatewayError) as error:
            text = f"{error.message} {getattr(error, 'fix', '')}".strip()
            return types.CallToolResult(content=[types.TextContent(text=text)], is_error=True)

    async def _generate(self, context: ServerRequestContext[Any], given: dict[str, Any]) -> types.CallToolResult:
        path = self._path(given.pop("file_name", None))
        refused = [(name, "is not offered here") for name in _NOT_OFFERED if name in given]
        raise_for(refused)
        if path is not None:
            given["image_format"] = SUFFIXES[path.suffix.lower()]
        request = GenerateRequest.from_fields({name: value for name, value in given.items() if value is not None})
        self._budget.take(1)
        image = await self._image(context, request)
        report: dict[str, Any] = {"seed": image.seed, "size": list(image.size), "warnings": image.warnings}
        report["resource"] = self._keep(image)
        if path is not None:
            report["file"] = str(await anyio.to_thread.run_sync(image.save, path))
        content: list[types.ContentBlock] = [
            types.ImageContent(data=base64.b64encode(image.content).decode("ascii"), mime_type=image.media_type),
            types.TextContent(text=json.dumps(report)),
        ]
        return types.CallToolResult(content=content, structured_content=report)

    async def _image(self, context: ServerRequestContext[Any], request: GenerateRequest) -> GeneratedImage:
        """Generate an image on a thread; a cancelled call stops what this machine generates."""
        stopped = threading.Event()

        def on_step(done: int, total: int) -> bool:
            if not stopped.is_set():
                anyio.from_thread.run(context.session.report_progress, done, total)
            return stopped.is_set()

        def make() -> GeneratedImage:
            with cancelled_if(stopped.is_set):
                return self._client.generate_request(request, on_step)

        try:
            return await anyio.to_thread.run_sync(make, abandon_on_cancel=True)
        finally:
            stopped.set()

    def _path(self, name: object) -> Path | None:
        """Return the file to write: in the folder, whatever the name says.

        Raises:
            InvalidRequest: the name has parts of a path, or no suffix of an image.
            OutputError: there is no folder.
        """
        if name is None:
            return None
        if self._folder is None:
            raise OutputError(
                "This server saves no files.", fix="Start it with a folder: `lambdiff mcp --output-dir FOLDER`."
            )
        path = Path(str(name))
        if not isinstance(name, str) or path.name != name or name.startswith(".") or "\\" in name or "\0" in name:
            raise InvalidRequest("`file_name` must be a plain name, such as cat.png, without a folder.")
        if path.suffix.lower() not in SUFFIXES:
            raise InvalidRequest(f"`file_name` must end in one of {', '.join(SUFFIXES)}.")
        return self._folder / name

    def _keep(self, image: GeneratedImage) -> str:
        self._made += 1
        uri = f"{SCHEME}{self._made}"
        self._images[uri] = image
        while len(self._images) > KEPT:
            self._images.popitem(last=False)
        return uri

    async def _list_resources(self, _context: ServerRequestContext[Any], _params: Any) -> types.ListResourcesResult:
        resources = [
            types.Resource(
                uri=uri, name=f"image {uri.removeprefix(SCHEME)}", mime_type=image.media_type, size=len(image.content)
            )
            for uri, image in self._images.items()
        ]
        return types.ListResourcesResult(resources=resources)

    async def _read_resource(
        self, _context: ServerRequestContext[Any], params: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        image = self._images.get(str(params.uri))
        if image is None:
            raise MCPError(code=types.INVALID_PARAMS, message="There is no such image; the oldest ones are dropped.")
        blob = base64.b64encode(image.content).decode("ascii")
        content = types.BlobResourceContents(uri=str(params.uri), blob=blob, mime_type=MEDIA_TYPES[image.format])
        return types.ReadResourceResult(contents=[content])


def _schema(*, saving: bool) -> dict[str, Any]:
    """Return the JSON Schema of the tool's arguments."""
    _, components = msgspec.json.schema_components((GenerateRequest,))
    properties = {
        name: _without_null(each)
        for name, each in components["GenerateRequest"]["properties"].items()
        if name not in _NOT_OFFERED
    }
    if saving:
        properties["file_name"] = _FILE_NAME
    return {"type": "object", "properties": properties, "required": ["prompt"], "additionalProperties": False}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of an optional field as that of a field that may be left out."""
    kinds = [kind for kind in schema.get("anyOf", [schema]) if kind.get("type") != "null"]
    return kinds[0] if len(kinds) == 1 else schema


async def run_on_stdio(tools: ImageTools) -> None:
    """Serve on stdin and stdout until stdin ends. What else writes to stdout goes to stderr meanwhile."""
    from mcp.server.stdio import stdio_server

    async with stdio_server() as (read_stream, write_stream):
        await tools.server.run(read_stream, write_stream, tools.server.create_initialization_options())
