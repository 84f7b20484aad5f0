"""What lambdiff raises and returns can be pickled and copied with all its fields, so it survives a process pool."""

from __future__ import annotations

import copy
import functools
import importlib
import inspect
import multiprocessing
import pickle
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
import msgspec.inspect as types
import pytest

import lambdiff
from lambdiff.client.client import Client
from lambdiff.errors import AccessDenied, LambdiffError
from lambdiff.protocol.pictures import WHITE, Picture
from support.stub_engine import StubEngine
from support.stub_transport import StubTransport

PACKAGE = Path(lambdiff.__file__).parent
HEAVY = re.compile(r"^(import|from) (torch|aws_cdk|diffusers|openvino)", re.MULTILINE)
"""Modules that import these define neither errors nor structs."""
COPIES: list[Callable[[Any], Any]] = [
    *(
        functools.partial(lambda protocol, value: pickle.loads(pickle.dumps(value, protocol)), protocol)  # noqa: S301
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ),
    copy.copy,
    copy.deepcopy,
]
SAMPLES: dict[type, Callable[[Any], Any]] = {
    types.AnyType: lambda _: {"any": 1},
    types.BoolType: lambda _: True,
    types.BytesType: lambda _: b"bytes",
    types.CustomType: lambda _: Picture(WHITE, "image"),  # the only class that is no struct
    types.DataclassType: lambda info: info.cls(*(sample(field.type) for field in info.fields)),
    types.DictType: lambda info: {sample(info.key_type): sample(info.value_type)},
    types.FloatType: lambda _: 1.5,
    types.FrozenSetType: lambda info: frozenset([sample(info.item_type)]),
    types.IntType: lambda _: 64,
    types.Metadata: lambda info: sample(info.type),
    types.ListType: lambda info: [sample(info.item_type)],
    types.LiteralType: lambda info: info.values[-1],
    types.StrType: lambda _: "täxt",
    types.StructType: lambda info: sample_struct(info.cls),
    types.TupleType: lambda info: tuple(map(sample, info.item_types)),
    types.UnionType: lambda info: sample(next(each for each in info.types if not isinstance(each, types.NoneType))),
    types.VarTupleType: lambda info: (sample(info.item_type),),
}
VALID: dict[str, Any] = {"guidance_interval": (0.0, 0.5)}
"""Values of fields that a struct checks itself."""


@pytest.fixture
def client() -> Client:
    """A client of the stub engine."""
    return Client(transport=StubTransport(StubEngine()))


def subclasses(base: type) -> Iterator[type]:
    """Return the classes of lambdiff that inherit from `base`, and `base` itself if it is one of them."""
    for file in PACKAGE.rglob("*.py"):
        name = ".".join(["lambdiff", *file.relative_to(PACKAGE).with_suffix("").parts])
        source = file.read_text(encoding="utf-8")
        if re.search(r"^class \w+\(", source, re.MULTILINE) and not HEAVY.search(source):
            importlib.import_module(name)
    found, waiting = set(), [base]
    while waiting:
        each = waiting.pop()
        waiting += each.__subclasses__()
        if each.__module__.startswith("lambdiff"):
            found.add(each)
    return iter(sorted(found, key=lambda each: each.__qualname__))


def sample(info: types.Type) -> Any:
    """Return a value of a type; an unknown kind of type is an error."""
    return SAMPLES[type(info)](info)


def sample_struct(cls: type[msgspec.Struct]) -> msgspec.Struct:
    """Return a struct with a value in every field."""
    info = types.type_info(cls)
    assert isinstance(info, types.StructType)
    return cls(**{field.name: VALID.get(field.name) or sample(field.type) for field in info.fields})


def sample_error(cls: type[LambdiffError]) -> LambdiffError:
    """Return an error with a value for every argument, an attribute that was added later, and a note."""
    values = {str: "täxt", int: 403, int | None: 504, str | None: "r-1"}
    hints = get_type_hints(cls.__init__)
    given = {
        name: values.get(hints[name], [("width", "too wide"), ("height", "odd")])
        for name in inspect.signature(cls).parameters
    }
    error = cls(**given)
    error.added = "later"  # type: ignore[attr-defined]
    error.add_note("a note")
    return error


def test_every_error_survives_pickling_and_copying() -> None:
    """An error of any class keeps its type, its text, its fields, its exit code and its notes."""
    classes = list(subclasses(LambdiffError))
    assert {getattr(lambdiff, name) for name in lambdiff.__all__ if name in vars(lambdiff.errors)} <= set(classes)
    for cls in classes:
        error = sample_error(cls)
        for duplicate in (each(error) for each in COPIES):
            assert type(duplicate) is cls
            assert vars(duplicate) == vars(error)
            assert (str(duplicate), duplicate.args, duplicate.exit_code) == (str(error), error.args, error.exit_code)


def test_every_struct_survives_pickling_and_copying() -> None:
    """Reports, plans, manifests, requests and every other struct compare equal to their copies."""
    for cls in subclasses(msgspec.Struct):
        value = sample_struct(cls)
        assert [each(value) for each in COPIES] == [value] * len(COPIES), cls


def test_images_and_batches_survive_pickling_and_copying(client: Client) -> None:
    """Images, failures and batches keep everything, and decoding an image does not make its pickle larger."""
    batch = client.generate_many(["a cat", {"prompt": "a dog", "width": 1024}], seed=7)
    image = batch.images[0]
    size = len(pickle.dumps(image))
    assert image.image.size == (image.metadata.generation.width, image.metadata.generation.height)
    assert len(pickle.dumps(image)) == size
    for duplicate in (each(batch) for each in COPIES):
        (twin,), (failure,) = duplicate.images, duplicate.failures
        assert (twin.to_dict(), twin.content, twin.seed) == (image.to_dict(), image.content, image.seed)
        assert twin.image.tobytes() == image.image.tobytes()
        assert (failure.index, failure.request) == (1, batch.failures[0].request)
        assert vars(failure.error) == vars(batch.failures[0].error)


def test_other_results_survive_pickling_and_copying() -> None:
    """Keys and replies compare equal to their copies."""
    for value in (lambdiff.Keys("AKID", "secret", "token"), lambdiff.HttpResponse(200, {"a": "b"}, b"body")):
        assert [each(value) for each in COPIES] == [value] * len(COPIES)


def test_a_client_says_that_it_cannot_be_pickled(client: Client) -> None:
    """Pickling or copying a client is refused with the way out, because its connections cannot be shared."""
    for attempt in [*COPIES, lambda value: pickle.dumps(value.generate)]:
        with pytest.raises(TypeError, match=r"lambdiff\.generate"):
            attempt(client)


def refuse(number: int) -> None:
    """Fail as an endpoint that denies access; runs in a process pool."""
    raise AccessDenied(f"image {number}", fix="Sign in.", status=403, request_id="r-1")


@pytest.mark.slow
@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_an_error_leaves_a_process_pool(method: str) -> None:
    """An error in a worker process is raised by the pool with all fields, and the pool can still be used."""
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as pool, context.Pool(1) as other:
        attempts = [lambda: pool.submit(refuse, 1).result(60), lambda: other.apply_async(refuse, (1,)).get(60)]
        for attempt in attempts * 2:
            with pytest.raises(AccessDenied) as caught:
                attempt()
            assert (caught.value.message, caught.value.fix) == ("image 1", "Sign in.")
            assert (caught.value.status, caught.value.request_id) == (403, "r-1")
