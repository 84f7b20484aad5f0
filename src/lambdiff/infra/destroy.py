"""`lambdiff destroy`: delete the stack, then ask about what CloudFormation retains: images, logs, and what batch runs
have generated.

Published versions are deleted with the function. The CDK bootstrap stack stays, because other CDK applications may
use it.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
from msgspec import Struct

from lambdiff import config, pricing
from lambdiff.aws import account as accounts
from lambdiff.aws import buckets, images, logs, outputs, stacks
from lambdiff.aws import deployment as deployments
from lambdiff.aws import function as functions
from lambdiff.aws.account import Account
from lambdiff.aws.deployment import SelectedDeployment
from lambdiff.aws.error_mapping import PermissionDenied
from lambdiff.aws.images import ImageAddress, StoredImage
from lambdiff.config import Deployment, Sourced
from lambdiff.errors import Cancelled, ConfigurationError
from lambdiff.files import write_atomically
from lambdiff.infra import builder, existing_stack
from lambdiff.infra.settings import DEFAULT_NAME, builder_stack_name, stack_name
from lambdiff.interrupts import DeferredInterrupt
from lambdiff.protocol.batch_layout import IMAGES
from lambdiff.stages import Confirm, Stages


class DestroyResult(Struct, frozen=True, kw_only=True):
    """What was deleted and what was kept, as `lambdiff destroy --json` prints it."""

    name: str
    stack: str
    removed: list[str]
    kept: list[str]


class RetainedResources(Struct, frozen=True, kw_only=True):
    """What CloudFormation retains, recorded before the stack is deleted, because it cannot be found afterwards.

    Attributes:
        function: the name of the function, which may be listed for a while after it was deleted.
        image: the address of its image.
        image_known: whether the functions that use an image can be recognized; see `functions.users_of_images`.
        builder: the repository of the builder stack, if CodeBuild built the images.
        qualifier: of a custom CDK bootstrap, whose repository has the images.
        bucket: the bucket with the images of batch runs; empty without `batch`.
        batch_function: the name of the function that generated them.
    """

    account: str
    region: str
    stack: str
    function: str = ""
    image: str = ""
    image_known: bool = True
    log_group: str = ""
    builder: str = ""
    qualifier: str | None = None
    bucket: str = ""
    batch_function: str = ""


@dataclass(frozen=True)
class _Leftover:
    """Retained resources: how a question and a report name them, and the call that deletes them."""

    label: str
    stage: str
    delete: Callable[[], None]


def select(name: str | None = None, profile: str | None = None, region: str | None = None) -> SelectedDeployment:
    """Select the deployment to destroy, which need not be saved on this machine.

    A deployment whose creation failed was never saved. It is found by the name of its stack.

    Args:
        name: the deployment; by default the saved default one, else that with the default name.
        profile: an AWS profile.
        region: where the stack is; by default that of the saved deployment, else as in `open_account`.

    Raises:
        InvalidRequest: the name is not valid.
        ConfigurationError: there is no such deployment, neither saved nor in AWS.
        CredentialsError, DeployError: AWS does not accept the credentials, or the stack cannot be read.
    """
    saved = deployments.find_saved(name)
    if saved and region in (None, saved.value.region):
        return SelectedDeployment(saved, accounts.open_account(profile, deployment=saved.value))
    named = config.name_from_caller(name) or Sourced(DEFAULT_NAME, "the default")
    chosen = saved.value.name if saved else config.check_name(named.value, named.source)
    try:
        account = accounts.open_account(profile, region)
    except ConfigurationError:
        deployments.select_saved(name)  # without AWS, what can be said is that it is not saved
        raise
    if not _exists(account, chosen):
        known = ", ".join(sorted(config.load().deployments))
        raise ConfigurationError(
            f"There is no deployment {chosen!r}: none is saved under this name, and {account.region.value} of account "
            f"{account.id} has no stack {stack_name(chosen)}.",
            fix=f"Check the name, `profile=` and `region=`.{f' Saved here: {known}.' if known else ''}",
        )
    found = Deployment(name=chosen, url="", region=account.region.value, stack=stack_name(chosen), profile=profile)
    return SelectedDeployment(Sourced(found, "CloudFormation"), account)


def destroy(
    target: SelectedDeployment, stages: Stages, confirm: Confirm, *, delete_images: bool | None = None
) -> DestroyResult:
    """Delete a deployment. It is removed from the saved deployments last, so that an interrupted run can be repeated.

    Args:
        target: the deployment.
        stages: shows the progress.
        confirm: asks before anything is deleted.
        delete_images: delete the bucket with the images of batch runs, or keep it; None asks.

    Raises:
        Cancelled: the caller declined, or it was interrupted by Ctrl-C, SIGTERM or SIGHUP; the message says what has
            happened in AWS.
        ConfigurationError: the stack is not lambdiff's, or is protected against deletion.
        CredentialsError: a permission is missing.
        DeployError: a resource could not be deleted; the next run continues from there.
    """
    run = _Run(target, stages, confirm, delete_images)
    with run.explaining_interrupts():
        retained = run.prepare()
        # Deferred from here on, where AWS is changed: until then, a signal may end the program at once.
        with DeferredInterrupt("Ending in an orderly way; press Ctrl-C again to abort."), run.explaining_interrupts():
            return run.delete(retained)


class _Run:
    """One deletion in progress, which knows what an interrupt would leave behind."""

    def __init__(
        self, target: SelectedDeployment, stages: Stages, confirm: Confirm, delete_images: bool | None
    ) -> None:
        self._delete_images = delete_images
        self._deployment, self._account = target.deployment.value, target.account
        self._stages, self._confirm = stages, confirm
        self._progress = "Interrupted; nothing was deleted."
        self._next = ""

    @contextlib.contextmanager
    def explaining_interrupts(self) -> Iterator[None]:
        """Turn KeyboardInterrupt into the error that says what has happened so far."""
        try:
            yield
        except KeyboardInterrupt:
            self._stages.failed()
            raise Cancelled(self._progress, fix=self._next) from None

    def prepare(self) -> RetainedResources:
        """Run all steps that change nothing in AWS; return what CloudFormation will retain.

        Raises:
            Cancelled: the caller declined.
        """
        deployment, account, stages = self._deployment, self._account, self._stages
        stages.stage("Reading the stack")
        retained = _find_retained(account, deployment, _read_record(account, deployment), stages)
        stages.done()
        where = f"account {retained.account}, {retained.region}"
        if not self._confirm(f"Delete the stack {retained.stack} in {where}, permanently?"):
            raise Cancelled("Nothing was deleted.")
        return retained

    def delete(self, retained: RetainedResources) -> DestroyResult:
        """Delete the stack, then what it retains."""
        deployment, account, stages = self._deployment, self._account, self._stages
        record = _record_path(deployment.name)
        write_atomically(record, msgspec.json.encode(retained), force=True, mode=0o600)
        self._progress = f"Interrupted; CloudFormation goes on deleting the stack {retained.stack} by itself."
        self._next = "Run `lambdiff destroy` again: it waits for that, and asks about what is left."
        stages.stage("Deleting the stack")
        stacks.delete(account, retained.stack)
        stages.done()
        self._progress = f"Interrupted when the stack {retained.stack} was deleted; images and logs may be left."
        self._next = "Run `lambdiff destroy` again: it asks about what is left."
        removed, kept = _delete_retained(account, deployment.name, retained, stages, self._confirm)
        self._delete_bucket(retained.bucket, removed, kept)
        saved = config.load().deployments.get(deployment.name)
        if saved and (saved.region, saved.stack) == (retained.region, retained.stack):
            config.remove(deployment.name)
        record.unlink(missing_ok=True)
        return DestroyResult(
            name=deployment.name, stack=retained.stack, removed=[f"stack {retained.stack}", *removed], kept=kept
        )

    def _delete_bucket(self, bucket: str, removed: list[str], kept: list[str]) -> None:
        """Delete the bucket of batch runs, if that is wanted. Without images, nobody has to be asked."""
        content = buckets.measure(self._account, bucket, IMAGES) if bucket else None
        if content is None:
            return
        month = content.bytes / 1e9 * pricing.S3_GB_MONTH
        label = (
            f"bucket {bucket} with {content.objects:,} image{'' if content.objects == 1 else 's'} of batch runs "
            f"({content.bytes / 1e9:.2f} GB, {pricing.dollars(month)} a month)"
        )
        wanted = self._delete_images
        if not content.objects:
            wanted = True
        elif wanted is None:
            wanted = self._confirm(f"Delete the {label} as well?")
        if wanted:
            self._stages.stage("Deleting the bucket")
            buckets.remove(self._account, bucket)
            self._stages.done()
            removed.append(label)
        else:
            command = ["aws", "s3", "rb", f"s3://{bucket}", "--force", "--region", self._account.region.value]
            kept.append(f"{label}; delete it with `{shlex.join(command)}`")


def _exists(account: Account, name: str) -> bool:
    """Whether a stack that is not saved on this machine exists, or the rest of it, if a run was interrupted."""
    wanted = Deployment(name=name, url="", region=account.region.value, stack=stack_name(name))
    names = (stack_name(name), builder_stack_name(name))
    return _read_record(account, wanted) is not None or any(stacks.read(account, each) for each in names)


def _record_path(name: str) -> Path:
    return config.home() / "destroying" / f"{name}.json"


def _read_record(account: Account, deployment: Deployment) -> RetainedResources | None:
    """Return what an interrupted run recorded about the same stack."""
    try:
        record = msgspec.json.decode(_record_path(deployment.name).read_bytes(), type=RetainedResources)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    same = (record.account, record.region, record.stack) == (account.id, account.region.value, deployment.stack)
    return record if same else None


def _find_retained(
    account: Account, deployment: Deployment, record: RetainedResources | None, stages: Stages
) -> RetainedResources:
    builder_state = builder.read(account, deployment.name)
    if record or builder_state:  # the rest of a deployment, or the beginning of one
        state = stacks.read(account, record.stack if record else stack_name(deployment.name))
    else:
        state = stacks.require_for(account, deployment)
    if state and state.changing:
        stages.stage("Waiting for an earlier change of the stack")
        state = stacks.wait_until_idle(account, state.name, seen=lambda each: stages.detail(each.status))
    if state:
        existing_stack.check_deletable(account, state)
    found = state.outputs if state else {}
    function = functions.find(account, found.get(outputs.FUNCTION_NAME) or deployment.function_name)
    record = record or RetainedResources(
        account=account.id, region=account.region.value, stack=deployment.stack or stack_name(deployment.name)
    )
    return msgspec.structs.replace(
        record,
        function=function.name if function else record.function,
        image=(function.image_uri if function else "") or record.image,
        image_known=function.image_known if function else record.image_known,
        log_group=found.get(outputs.LOG_GROUP) or record.log_group,
        builder=builder_state.outputs.get(outputs.BUILDER_REPOSITORY, "") if builder_state else record.builder,
        bucket=found.get(outputs.BATCH_BUCKET) or record.bucket,
        batch_function=found.get(outputs.BATCH_FUNCTION) or record.batch_function,
        qualifier=(existing_stack.read_qualifier(account, state.name) if state else None) or record.qualifier,
    )


def _delete_retained(
    account: Account, name: str, retained: RetainedResources, stages: Stages, confirm: Confirm
) -> tuple[list[str], list[str]]:
    """Ask about each retained resource and delete it; return what was removed and what was kept."""
    removed: list[str] = []
    kept: list[str] = []
    leftovers = list(_image_leftovers(account, retained, kept))
    if builder.read(account, name):
        leftovers.append(
            _Leftover(
                f"CodeBuild project and images of {retained.stack} ({builder_stack_name(name)})",
                "Deleting the CodeBuild project",
                lambda: builder.remove(account, name),
            )
        )
    if logs.exists(account, retained.log_group):
        leftovers.append(
            _Leftover(
                f"log group {retained.log_group}",
                "Deleting the log group",
                lambda: logs.delete(account, retained.log_group),
            )
        )
    for leftover in leftovers:
        if confirm(f"Delete the {leftover.label} as well?"):
            stages.stage(leftover.stage)
            leftover.delete()
            removed.append(leftover.label)
        else:
            kept.append(leftover.label)
    stages.done()
    return removed, kept


def _image_leftovers(account: Account, retained: RetainedResources, kept: list[str]) -> Iterator[_Leftover]:
    """Yield the current image and, together, the earlier ones; append those that must not be deleted to `kept`."""
    try:
        current, earlier = _images(account, retained)
    except PermissionDenied as error:
        kept.append(f"images of {retained.stack} in ECR ({error.message})")
        return
    users = functions.users_of_images(account) if current or earlier else {}
    deletable = []
    for image in [*current, *earlier]:
        if users is None or not retained.image_known:
            kept.append(
                f"image {image} (another function may use it, and your identity may not list functions; delete it with "
                f"`{_delete_command(account, image)}` if none does)"
            )
        elif others := users.get(image.digest, set()) - {retained.function, retained.batch_function}:
            kept.append(f"image {image} (in use by {', '.join(sorted(others))})")
        else:
            deletable.append(image)
    for image in current:
        if image in deletable:
            yield _Leftover(f"image {image}", "Deleting the image", _deletion(account, [image], retained.stack))
    if old := [image for image in earlier if image in deletable]:
        month = sum(image.size for image in old) / 1e9 * pricing.ECR_GB_MONTH
        yield _Leftover(
            f"{len(old)} earlier image{'s' if len(old) > 1 else ''} of {retained.stack} in ECR "
            f"({pricing.dollars(month)} a month)",
            "Deleting earlier images",
            _deletion(account, old, retained.stack),
        )


def _images(account: Account, retained: RetainedResources) -> tuple[list[StoredImage], list[StoredImage]]:
    """Return the function's image, if it exists, and the earlier images of the stack."""
    address = ImageAddress.parse(retained.image)
    if retained.builder and retained.image.startswith(f"{retained.builder}@"):
        address, current = None, None  # the builder stack deletes it
    else:
        current = images.find(account, retained.image)
    repository = address.repository if address else account.image_repository(retained.qualifier)
    published = images.of_stack(account, repository, retained.stack)
    return [current] if current else [], [image for image in published if image != current]


def _deletion(account: Account, deletable: list[StoredImage], stack: str) -> Callable[[], None]:
    def delete() -> None:
        for image in deletable:
            images.delete(account, image, stack)

    return delete


def _delete_command(account: Account, image: StoredImage) -> str:
    command = ["aws", "ecr", "batch-delete-image", "--region", account.region.value]
    return shlex.join([*command, "--repository-name", image.repository, "--image-ids", f"imageDigest={image.digest}"])
