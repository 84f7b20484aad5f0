"""lambdiff: a Function URL's event into the function's own entry point, a reply out."""

from __future__ import annotations

import json
import sys
from typing import Any

import common
import switches


def imports(job: common.Job) -> None:
    """What the function imports before and during its first request."""
    engine = json.loads((job.model / "manifest.json").read_text())["engine"]

    __import__(f"lambdiff.engine.{engine}")
    import lambdiff.handler.app
    import lambdiff.protocol.metadata  # noqa: F401 -- and Pillow with it

    if job.switch:
        getattr(switches, job.switch)(job)


def load(job: common.Job) -> Any:
    """The function's app with its weights in memory; its log goes nowhere."""
    from lambdiff.engine.factory import open_engine
    from lambdiff.handler.app import App

    def opened() -> Any:
        engine = open_engine(job.model)
        return type(engine)(job.model, engine.manifest, precision=job.precision) if job.precision else engine

    app = App(opened, raise_errors=True)
    app.engine.load()
    return app


def draw(app: Any, job: common.Job) -> bytes:
    """One invocation."""
    from lambdiff.protocol.headers import TIMING_HEADER, decode_timings

    body = {
        "prompt": job.prompt,
        "num_inference_steps": job.steps,
        "guidance_scale": job.guidance,
        "width": job.size,
        "height": job.size,
        "scheduler": job.scheduler,
        "seed": job.seed,
    }
    event = {
        "version": "2.0",
        "rawPath": "/",
        "headers": {"content-type": "application/json"},
        "requestContext": {"http": {"method": "POST", "path": "/"}},
        "body": json.dumps(body),
        "isBase64Encoded": False,
    }
    reply = app.invoke(event)
    if reply["statusCode"] != 200:
        raise SystemExit(f"no picture: {reply['body']}")
    job.timings |= decode_timings(reply["headers"][TIMING_HEADER])
    job.timings.pop("queue", None)
    return str(reply["body"]).encode()


def versions(app: Any) -> dict[str, str]:
    """Of lambdiff and of the engine's libraries; `engine` has the arithmetic as well."""
    from lambdiff import __version__

    found = {"lambdiff": __version__, "engine": f"{app.engine.name} {app.engine.precision}"}
    libraries = ("openvino", "torch", "diffusers")
    return found | {name: sys.modules[name].__version__ for name in libraries if name in sys.modules}


if __name__ == "__main__":
    common.run(imports, load, draw, versions)
