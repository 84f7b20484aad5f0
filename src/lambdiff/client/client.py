"""The client: a prompt goes in, an image comes out. Start reading at `Client.generate`."""

# Annotations are evaluated here, so that `help()` shows the values of a Literal instead of the name of its alias.
import time
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NoReturn, Self

from msgspec import Meta

from lambdiff.client import endpoint as endpoints
from lambdiff.client import notebook
from lambdiff.client.batch import Batch, Failure, OnResult, run_batch
from lambdiff.client.error_mapping import raise_for_problem
from lambdiff.client.image import GeneratedImage
from lambdiff.client.parameters import GenerationParameters, build_request, build_requests
from lambdiff.client.pictures import PictureSource
from lambdiff.client.replies import read_health
from lambdiff.client.transport import Transport
from lambdiff.errors import ConfigurationError
from lambdiff.protocol.contract import (
    GenerateRequest,
    Health,
    ImageFormat,
    OnStep,
    PromptSyntax,
    SchedulerName,
    SigmaSchedule,
)
from lambdiff.protocol.validation import checked


class Client:
    """Generates images at one endpoint: a Function URL, or this machine.

    Without arguments the endpoint is the first of: `LAMBDIFF_URL`, `LAMBDIFF_DEPLOYMENT`, the default deployment saved
    by `lambdiff deploy` or `lambdiff configure`, and the built-in model on this machine. A client may be shared
    between threads and reuses its connections.

    Args:
        url: a Function URL.
        region: the function's region; by default it is read from the URL or the deployment.
        credentials: what to sign with: `Keys`, botocore credentials or a boto3 session. By default the deployment's
            secret or role, or your own AWS identity.
        deployment: the name of a saved deployment.
        profile: the AWS profile to read credentials with.
        local: generate on this machine.
        model_dir: a baked model folder to generate with on this machine; implies `local=True`.
        timeout_s: the function's own timeout in seconds; the client waits a little longer.
        load: begin to load the model at once, in the background, if this machine generates. By default the first
            request loads it.
        transport: sends the requests and replaces all of the above, for instance in tests. The client closes it.

    Attributes:
        endpoint: where requests go; each setting has its source.
        transport: what sends them.

    Raises:
        ConfigurationError: arguments contradict each other, there is no such deployment, or the region is unknown.
        MissingExtra: the image would be generated on this machine, and the `local` extra is not installed.
        ModelError: with `load`, the model folder is unusable.

    Example:
        >>> with lambdiff.Client(local=True) as client:
        ...     client.generate("a cat in a top hat", seed=7).save("cat.png")
        PosixPath('cat.png')
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
        load: bool = False,
        transport: Transport | None = None,
    ) -> None:
        if transport is None:
            self.endpoint = endpoints.resolve(
                url=url, region=region, credentials=credentials, deployment=deployment, profile=profile,
                local=local, model_dir=model_dir, timeout_s=timeout_s,
            )  # fmt: skip
            self.transport = self.endpoint.open(load=load)
        else:
            if local or any((url, region, credentials, deployment, profile, model_dir, timeout_s)):
                raise ConfigurationError(
                    "A transport cannot be combined with endpoint settings.", fix="Pass `transport=` alone."
                )
            self.endpoint = endpoints.Endpoint.of_transport(transport)
            self.transport = transport

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
        scheduler: SchedulerName | None = None,
        sigma_schedule: SigmaSchedule | None = None,
        prompt_syntax: PromptSyntax | None = None,
        image: PictureSource | None = None,
        strength: float | None = None,
        mask: PictureSource | None = None,
        image_format: ImageFormat = "png",
        on_step: OnStep | None = None,
    ) -> GeneratedImage:
        """Generate one image and wait for it. A parameter that is None gets the model's default.

        A notebook shows progress and the image's warnings below the cell.

        Args:
            prompt: what to show, 1 to 2,000 characters.
            negative_prompt: what to keep out of the image, up to 2,000 characters.
            num_inference_steps: denoising steps, 1 to 100.
            guidance_scale: 0 to 30; at 1 or less there is no classifier-free guidance, which halves the work.
            width, height: pixels, 64 to 1,024, multiples of 8.
            seed: 0 to 2**32 - 1; the same seed and parameters give the same image. By default a random one.
            scheduler: the sampling method.
            sigma_schedule: how the noise levels are spaced. Samplers without noise levels of their own, such as `ddim`,
                take `normal` only.
            prompt_syntax: how the prompts are read: `plain`, or `a1111` with `(weighted:1.2)` words and `BREAK`; see
                "Prompts" in the documentation.
            image: a start image that is changed towards the prompt: a path, the bytes of a file, a PIL image, a numpy
                array or a `GeneratedImage`. Without a size, the image gets its shape.
            strength: 0 to 1, with `image` only: how much it may change, 0.75 by default. As many of the steps run.
            mask: which part of `image` is redrawn, in white; the rest stays as it is. Given like `image`.
            image_format: the encoding of the reply.
            on_step: called with (steps done, steps in total) after each step, on this machine only; return True to
                cancel.

        Raises:
            InvalidRequest: a parameter is out of range; nothing was sent.
            EndpointRefused: the endpoint refused the request (AccessDenied, Throttled, or a value that its model does
                not support).
            EndpointFailed: it failed, did not answer in time, or did not send the complete image of this request.
            CredentialsError: no credentials to sign the request with.
            Cancelled: `on_step` returned True.

        Example:
            >>> image = client.generate("a cat in a top hat", width=192, height=128, seed=7)
            >>> image.size, image.seed
            ((192, 128), 7)
        """
        request = build_request(
            prompt=prompt, negative_prompt=negative_prompt, num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale, width=width, height=height, seed=seed, scheduler=scheduler,
            sigma_schedule=sigma_schedule, prompt_syntax=prompt_syntax, image=image, strength=strength, mask=mask,
            image_format=image_format,
        )  # fmt: skip
        with notebook.display(self.transport) as cell:
            generated = self.generate_request(request, on_step or cell.on_step)
            cell.finished(generated.warnings)
            return generated

    def generate_many(
        self,
        prompts: Iterable[str | GenerationParameters],
        *,
        n: int = 1,
        max_workers: int = 8,
        on_result: OnResult | None = None,
        negative_prompt: str | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        width: int | None = None,
        height: int | None = None,
        seed: int | None = None,
        scheduler: SchedulerName | None = None,
        sigma_schedule: SigmaSchedule | None = None,
        prompt_syntax: PromptSyntax | None = None,
        image: PictureSource | None = None,
        strength: float | None = None,
        mask: PictureSource | None = None,
        image_format: ImageFormat = "png",
    ) -> Batch:
        """Generate many images in parallel, one request each.

        A request that fails becomes a `Failure` in the results and does not affect the others. All requests are
        validated before the first is sent.

        Args:
            prompts: strings, or mappings with the parameters of `generate`, which take precedence over those below.
            n: images of each prompt, up to 10,000. With more than one, the first has `seed` (by default a random one),
                and each further one the next seed; 0 follows 2**32 - 1. The results are ordered by prompt, then by
                seed.
            max_workers: how many requests run at once. On this machine they run one after the other.
            on_result: called with (index, result) as each request ends, in the calling thread.
            negative_prompt, num_inference_steps, guidance_scale, width, height, seed, scheduler, sigma_schedule,
                prompt_syntax, image, strength, mask, image_format: as for `generate`, for all images.

        Raises:
            InvalidRequest: a request is not valid, and the message has its index; nothing was sent.

        Example:
            >>> [image.seed for image in client.generate_many(["a cat"], n=3, seed=7).images]
            [7, 8, 9]
            >>> batch = client.generate_many(["a cat", {"prompt": "a dog", "seed": 8}], seed=7)
            >>> [image.save(f"{number}.png").name for number, image in enumerate(batch.images)]
            ['0.png', '1.png']
        """
        shared = {
            "negative_prompt": negative_prompt,
            "num_inference_steps": num_inference_steps,
            "guidance_scale": guidance_scale,
            "width": width,
            "height": height,
            "seed": seed,
            "scheduler": scheduler,
            "sigma_schedule": sigma_schedule,
            "prompt_syntax": prompt_syntax,
            "image": image,
            "strength": strength,
            "mask": mask,
            "image_format": image_format,
        }
        requests = build_requests(prompts, shared, n)
        workers = checked("max_workers", max_workers, Annotated[int, Meta(ge=1)])
        with notebook.display(self.transport, len(requests)) as cell:

            def report(index: int, result: GeneratedImage | Failure) -> None:
                cell.finished(result.warnings if isinstance(result, GeneratedImage) else [])
                if on_result:
                    on_result(index, result)

            return run_batch(
                requests,
                lambda request, stop: self.generate_request(build_request(**request), stop),
                max_workers=workers,
                on_result=report,
            )

    def generate_request(self, request: GenerateRequest, on_step: OnStep | None = None) -> GeneratedImage:
        """Generate the image of a request of the wire contract, and show nothing meanwhile.

        `generate` is what programs call; this is for front ends that have a request already.

        Args:
            request: validated, with its pictures in base64.
            on_step: as for `generate`.

        Raises:
            EndpointRefused, EndpointFailed, CredentialsError, Cancelled: as for `generate`.
        """
        started = time.perf_counter()
        reply = self.transport.request("POST", request.to_json(), on_step)
        raise_for_problem(reply)
        return GeneratedImage.from_reply(reply, request, time.perf_counter() - started, self.endpoint.price)

    def health(self) -> Health:
        """Ask the endpoint for its version, model, engine, defaults and limits.

        Raises:
            EndpointRefused, EndpointFailed, CredentialsError: as for `generate`.
        """
        reply = self.transport.request("GET")
        raise_for_problem(reply)
        return read_health(reply, self.transport.url)

    def close(self) -> None:
        """Close connections and release the model's weights."""
        self.transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            "A Client cannot be pickled or copied, because it has connections, credentials or a model. Create one in "
            "each process, or call lambdiff.generate, which does that."
        )

    def __repr__(self) -> str:
        return f"Client({self.endpoint})"
