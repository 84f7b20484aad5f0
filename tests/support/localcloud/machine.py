"""A user's machine that is connected to the local cloud."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

from lambdiff.engine import manifest as manifests

from . import settings
from .cloud import Cloud

PLAIN_CLIENT = Path(__file__).parents[3] / "examples" / "sigv4_client.py"


class Machine:
    """A user's machine: lambdiff with its own state, connected to the cloud."""

    def __init__(self, cloud: Cloud, folder: Path, model: Path) -> None:
        self.cloud = cloud
        self.model = model
        self.folder = folder
        self.home = folder / "home"

    def lambdiff(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `lambdiff` with some arguments and environment variables."""
        return self.cloud.run(sys.executable, "-m", "lambdiff", *arguments, **self.state, **environment)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start `lambdiff`; what it prints to stderr can be read."""
        return subprocess.Popen(
            self.cloud.command(sys.executable, "-m", "lambdiff", *arguments), text=True, stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL, env=self.cloud.env(**self.state, **environment),
        )  # fmt: skip

    @property
    def processes(self) -> set[str]:
        """The command lines of the processes that `lambdiff` or its children have started and that still run."""
        found = set()
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"LAMBDIFF_HOME={self.home}\0".encode() in (folder / "environ").read_bytes():
                    found.add((folder / "cmdline").read_text().replace("\0", " "))
        return found

    @property
    def state(self) -> dict[str, str]:
        """The environment variables that keep lambdiff's state in this machine's folder."""
        return {"LAMBDIFF_HOME": str(self.home)}

    def report(self, *arguments: str) -> Any:
        """Return the --json report of a command that must succeed."""
        done = self.lambdiff(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    @property
    def deployment(self) -> dict[str, Any]:
        """The saved default deployment."""
        saved = json.loads((self.home / "deployments.json").read_text())
        return dict(saved["deployments"][saved["default"]])

    def changed_model(self, name: str) -> Path:
        """Return the folder of a model with another name, whose image has never been built."""
        folder = shutil.copytree(self.model, self.folder / name)
        manifest = json.loads((folder / manifests.FILENAME).read_text())
        manifest["name"] = f"{name}-{uuid.uuid4().hex[:8]}"
        (folder / manifests.FILENAME).write_text(json.dumps(manifest))
        return folder

    def keys(self) -> dict[str, str]:
        """Return the content of the secret: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."""
        text = self.cloud.client("secretsmanager").get_secret_value(SecretId=self.deployment["secret_arn"])
        return dict(json.loads(text["SecretString"]))

    def call_plainly(self, **keys: str) -> str:
        """Call the endpoint without lambdiff; return status and media type, and write the image to plain.png."""
        out = self.folder / "plain.png"
        done = self.cloud.run(sys.executable, PLAIN_CLIENT, self.deployment["url"], settings.REGION, out, **keys)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()
