"""The client: a prompt goes in, a picture comes out. Start reading at `Client.generate`."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lambdiff.client import endpoint
from lambdiff.client.error_mapping import raise_for_problem
from lambdiff.client.image import GeneratedImage
from lambdiff.errors import NOT_JSON, Cancelled, EndpointFailed, LambdiffError
from lambdiff.protocol.contract import GenerateRequest, Health
from lambdiff.protocol.http import OnStep

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


@dataclass(frozen=True)
class Failure:
    """One request of `generate_many` that gave no picture.

    Attributes:
        index: its place among the prompts, from 0.
        request: its parameters.
        error: why.
    """

    index: int
    request: dict[str, Any] = field(repr=False)
    error: LambdiffError


@dataclass(frozen=True)
class Batch:
    """The results of `generate_many`, in the order of the prompts: a picture or a `Failure` each."""

    results: list[GeneratedImage | Failure]

    @property
    def images(self) -> list[GeneratedImage]:
        """The pictures that were made, in order."""
        return [result for result in self.results if isinstance(result, GeneratedImage)]

    @property
    def failures(self) -> list[Failure]:
        """What gave no picture, in order."""
        return [result for result in self.results if isinstance(result, Failure)]

    def __iter__(self) -> Iterator[GeneratedImage | Failure]:
        return iter(self.results)

    def __len__(self) -> int:
        return len(self.results)


OnResult = Callable[[int, "GeneratedImage | Failure"], None]


class Client:
    """An endpoint to draw with: a Function URL, or this machine.

    With no argument the endpoint is, in this order: `LAMBDIFF_URL`, `LAMBDIFF_DEPLOYMENT`, the default deployment that
    `lambdiff deploy` or `lambdiff configure` saved, and else the model that is built into lambdiff, on this machine.
    Safe to share between threads; connections are kept and used again.

    Args:
        url: a Function URL.
        region: its region; found in the URL or the deployment if not given.
        credentials: who signs: a `Keys`, botocore credentials or a boto3 session. Default: the deployment's secret
            or role, or the caller's own AWS identity.
        deployment: the name of a saved deployment.
        profile: the AWS profile of the caller.
        local: draw on this machine.
        model_dir: with `local`, a baked model folder instead of the built-in model.
        timeout_s: the function's own time-out in seconds; the client waits a little longer.

    Raises:
        ConfigurationError: no such deployment, no region.
        MissingExtra: this machine is to draw and the `local` extra is not installed.

    Example:
        >>> with lambdiff.Client(local=True) as client:  # doctest: +SKIP
        ...     client.generate("a cat in a top hat", seed=7).save("cat.png")
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        region: str | None = None,
        credentials: Any = None,
        deployment: str | None = None,
        profile: str | None = None,
        local: bool = False,
        model_dir: str | Path | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.endpoint = endpoint.resolve(
            url=url, region=region, credentials=credentials, deployment=deployment, profile=profile,
            local=local, model_dir=model_dir, timeout_s=timeout_s,
        )  # fmt: skip
        self.transport = self.endpoint.open()

    def generate(
        self,
        prompt: str,
        *,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        seed: int | None = None,
        scheduler: str | None = None,
        image_format: str = "png",
        on_step: OnStep | None = None,
    ) -> GeneratedImage:
        """Draw one picture. What is None is the model's default.

        Args:
            prompt: what to draw, 1..2,000 characters.
            negative_prompt: what to keep out.
            num_inference_steps: denoising steps, 1..100.
            guidance_scale: how strictly to follow the prompt, 0..30; 1 or less: no guidance and half the work.
            width, height: pixels, multiples of 8, 64..1,024 and within the model's range.
            seed: 0..2^32-1; the same seed gives the same picture.
            scheduler: ddim, dpmpp_2m, euler, lcm or pndm.
            image_format: png, jpeg or webp.
            on_step: called with (steps done, steps in all) where the endpoint is this machine; True cancels.

        Raises:
            InvalidRequest: a parameter is out of range; nothing was sent.
            EndpointRefused: the endpoint said no (AccessDenied, Throttled, or a value that its model cannot draw).
            EndpointFailed: it broke, did not answer in time, or sent no whole picture.
            CredentialsError: nobody to sign the request.
            Cancelled: `on_step` returned True.
        """
        parameters = {
            name: value
            for name, value in {
                "prompt": prompt,
                "negative_prompt": negative_prompt,
                "num_inference_steps": num_inference_steps,
                "guidance_scale": guidance_scale,
                "width": width,
                "height": height,
                "seed": seed,
                "scheduler": scheduler,
                "image_format": image_format,
            }.items()
            if value is not None
        }
        request = GenerateRequest.from_fields(parameters)
        started = time.perf_counter()
        reply = self.transport.request("POST", request.to_json(), on_step)
        raise_for_problem(reply)
        return GeneratedImage.from_reply(reply, time.perf_counter() - started, self.endpoint.price)

    def generate_many(
        self,
        prompts: Sequence[str | Mapping[str, Any]],
        *,
        max_workers: int = 8,
        on_result: OnResult | None = None,
        **parameters: Any,
    ) -> Batch:
        """Draw many pictures, one call each, side by side.

        A call that fails is a `Failure` in its place and disturbs no other; a slow one holds up none. Every request
        is checked before the first is sent.

        Args:
            prompts: prompts, or mappings of `generate`'s parameters.
            max_workers: calls under way at once. On this machine they run one after the other.
            on_result: called with (index, result) as each ends, in this thread.
            parameters: `generate`'s parameters for those that do not say otherwise.

        Raises:
            InvalidRequest: a request is not valid; nothing was sent.

        Example:
            >>> batch = client.generate_many(["a cat", "a dog"], seed=7)  # doctest: +SKIP
            >>> [image.save(f"{i}.png") for i, image in enumerate(batch.images)]  # doctest: +SKIP
        """
        requests = [{**parameters, **({"prompt": each} if isinstance(each, str) else dict(each))} for each in prompts]
        for request in requests:
            GenerateRequest.from_fields({name: value for name, value in request.items() if value is not None})
        jobs: queue.SimpleQueue[tuple[int, dict[str, Any]]] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[int, GeneratedImage | Failure | BaseException]] = queue.SimpleQueue()
        for job in enumerate(requests):
            jobs.put(job)
        stopped = threading.Event()

        def work() -> None:
            while not stopped.is_set():
                try:
                    index, request = jobs.get_nowait()
                except queue.Empty:
                    return
                try:
                    done.put((index, self.generate(**request, on_step=lambda _done, _all: stopped.is_set())))
                except LambdiffError as error:
                    done.put((index, Failure(index, request, error)))
                except BaseException as error:  # handed to the caller's thread, which raises it
                    done.put((index, error))

        # Daemon threads, not an executor: on Ctrl-C the program must end although a call may run for minutes yet.
        for _ in range(min(max(1, max_workers), len(requests))):
            threading.Thread(target=work, daemon=True).start()
        results: list[Any] = [None] * len(requests)
        try:
            for _ in requests:
                index, result = done.get()
                if isinstance(result, BaseException):
                    raise result
                results[index] = result
                if on_result:
                    on_result(index, result)
        finally:
            stopped.set()
        return Batch(results)

    def health(self) -> Health:
        """What the endpoint says of itself: version, model, engine, defaults, limits.

        Raises:
            EndpointRefused, EndpointFailed, CredentialsError: as `generate`.
        """
        reply = self.transport.request("GET")
        raise_for_problem(reply)
        try:
            return msgspec.json.decode(reply.body, type=Health)
        except NOT_JSON as error:
            raise EndpointFailed(
                f"{self.transport.url} answers, but not as lambdiff does: {error}.",
                fix="Check the URL: `lambdiff status`.",
                status=reply.status,
            ) from None

    def close(self) -> None:
        """Close connections, or let go of the weights."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self.endpoint})"


_shared: dict[tuple[tuple[str, Any], ...], Client] = {}
_shared_lock = threading.Lock()


def generate(
    prompt: str,
    *,
    url: str | None = None,
    region: str | None = None,
    deployment: str | None = None,
    profile: str | None = None,
    local: bool = False,
    **parameters: Any,
) -> GeneratedImage:
    """Draw one picture with a client that is kept for the next call; see `Client` and `Client.generate`.

    In a notebook the call shows its progress.

    Example:
        >>> lambdiff.generate("a cat in a top hat", seed=7).save("cat.png")  # doctest: +SKIP
        PosixPath('cat.png')
    """
    from lambdiff.client import progress

    key = endpoint.key(url=url, region=region, deployment=deployment, profile=profile, local=local)
    with _shared_lock:
        client = _shared.get(key)
        if client is None:
            client = _shared[key] = Client(url, region=region, deployment=deployment, profile=profile, local=local)
    with progress.notebook() as on_step:
        return client.generate(prompt, on_step=parameters.pop("on_step", None) or on_step, **parameters)


__all__ = ["Batch", "Cancelled", "Client", "Failure", "generate"]
