"""lambdiff: events of a Function URL, handled by the function's own code."""

from __future__ import annotations

import json
import sys
from typing import Any

import common
import switches


def imports(job: common.Job) -> None:
    """Import what the function imports before and during its first request."""
    engine = json.loads((job.model / "manifest.json").read_text())["engine"]

    __import__(f"lambdiff.engine.{engine}")
    import lambdiff.handler.app
    import lambdiff.protocol.metadata  # noqa: F401 -- imports Pillow

    if job.switch:
        getattr(switches, job.switch)(job)


def load(job: common.Job) -> Any:
    """Return the function's app with a loaded engine."""
    from lambdiff.engine.factory import open_engine
    from lambdiff.handler.app import App

    def open_model() -> Any:
        engine = open_engine(job.model)
        return type(engine)(job.model, engine.manifest, precision=job.precision) if job.precision else engine

    app = App(open_model, raise_errors=True)
    app.engine.load()
    return app


def generate(app: Any, job: common.Job) -> bytes:
    """Invoke the function once."""
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
        raise SystemExit(f"no image: {reply['body']}")
    job.timings |= decode_timings(reply["headers"][TIMING_HEADER])
    job.timings.pop("queue", None)
    return str(reply["body"]).encode()


def versions(app: Any) -> dict[str, str]:
    """Return the versions of lambdiff and of the engine's libraries, and the engine with its arithmetic."""
    from lambdiff import __version__

    own = {"lambdiff": __version__, "engine": f"{app.engine.name} {app.engine.precision}"}
    libraries = ("openvino", "torch", "diffusers")
    return own | {name: sys.modules[name].__version__ for name in libraries if name in sys.modules}


if __name__ == "__main__":
    common.run(imports, load, generate, versions)
