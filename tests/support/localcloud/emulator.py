"""Start ministack with fixes for faults that a deployment meets, and with limits and delays that AWS has.

Runs in an environment of its own. Each patch says what goes wrong without it. The patches use private names, hence the
pinned version in settings.py.
"""

import functools
import json
import os
import re
import tarfile
import threading
import time
from pathlib import Path

import codebuild_phases
import map_runs
from ministack.core import iam_actions
from ministack.services import codebuild, ecr, iam, lambda_svc
from ministack.services.cloudformation import provisioners, stacks

SPREAD = 3.0
"""Seconds until a new access key is accepted. AWS needs some, too."""
MONITORING = 4.0
"""Seconds until the key that another one replaces is deleted. On AWS, `lambdiff rotate` asks for a minute."""
replaced_keys = set()


def create_key(logical_id, properties, stack_name):
    """Create an access key: ministack's CloudFormation lacks AWS::IAM::AccessKey ("Unrecognized resource types")."""
    status, _, body = iam._create_access_key({"UserName": properties["UserName"]})
    text = body.decode() if isinstance(body, bytes) else body
    if status >= 400:
        raise ValueError(f"AWS::IAM::AccessKey: {text}")
    key_id = re.search("<AccessKeyId>([^<]+)", text)[1]
    record = iam._access_keys[key_id]
    secret, record["SecretAccessKey"] = record["SecretAccessKey"], "not known yet"
    threading.Timer(SPREAD, record.__setitem__, ("SecretAccessKey", secret)).start()
    return key_id, {"SecretAccessKey": secret}


def delete_key(key_id, properties):
    """Delete an access key; its next request is answered with 403."""
    if key_id in replaced_keys:
        time.sleep(MONITORING)
    iam._access_keys.pop(key_id, None)


def replace_key(key_id, old, new, stack_name):
    """Replace a key whose Serial or user changes; ministack deletes the old one when all resources are updated."""
    replaced_keys.add(key_id)
    return create_key(None, new, stack_name)


def on_own_thread(runs_on_worker_thread):
    """Run what sleeps on a thread of its own, so that the emulator answers requests in the meantime."""

    @functools.wraps(runs_on_worker_thread)
    def wrapped(resource_type):
        return resource_type in ("AWS::IAM::AccessKey", "AWS::Lambda::Function") or runs_on_worker_thread(resource_type)

    return wrapped


stacks._runs_on_worker_thread = on_own_thread(stacks._runs_on_worker_thread)
provisioners._RESOURCE_HANDLERS["AWS::IAM::AccessKey"] = {
    "create": create_key,
    "update": replace_key,
    "delete": delete_key,
}


def raising_when_unknown(describe):
    """Report a tag that does not exist with ImageNotFoundException, as ECR does.

    ministack returns an empty list, which the CDK CLI takes for "already published": it would neither build nor push a
    changed image.
    """

    @functools.wraps(describe)
    def describe_images(data):
        repository = data.get("repositoryName")
        if repository in ecr._repositories:
            for wanted in data.get("imageIds") or []:
                if not ecr._find_image(repository, wanted):
                    return ecr.error_response_json("ImageNotFoundException", f"There is no image {wanted}", 400)
        return describe(data)

    return describe_images


original = ecr._describe_images
fixed = raising_when_unknown(original)
ecr._describe_images = fixed
for table in [value for value in vars(ecr).values() if isinstance(value, dict)]:
    for name in [name for name, function in table.items() if function is original]:
        table[name] = fixed


def naming_one_repository(read_field):
    """Authorize ecr:DescribeRepositories for the repository in "repositoryNames".

    ministack reads "repositoryName" only and then requires permission for all repositories. CDK's publishing role has
    permission for one, and would be refused.
    """

    @functools.wraps(read_field)
    def safe_json_field(body, field):
        value = read_field(body, field)
        if value or field != "repositoryName":
            return value
        try:
            names = json.loads(body)["repositoryNames"]
        except (ValueError, KeyError, TypeError):
            return value
        return names[0] if isinstance(names, list) and len(names) == 1 else value

    return safe_json_field


iam_actions._safe_json_field = naming_one_repository(iam_actions._safe_json_field)


def limited(create):
    """Limit the memory of functions as in a new account, while a file holds the limit; the message is AWS's.

    While another file holds a number of seconds, creating a function takes that long.
    """
    limit, delay = Path(os.environ["LOCALCLOUD_MEMORY_CAP"]), Path(os.environ["LOCALCLOUD_STACK_DELAY"])

    @functools.wraps(create)
    def create_function(logical_id, properties, stack_name):
        if delay.exists():
            time.sleep(float(delay.read_text()))
        if limit.exists() and int(properties.get("MemorySize", 128)) > int(limit.read_text()):
            raise ValueError(
                "Resource handler returned message: \"'MemorySize' value failed to satisfy constraint: Member must "
                f'have value less than or equal to {limit.read_text()} (Service: Lambda, Status Code: 400)"'
            )
        return create(logical_id, properties, stack_name)

    return create_function


# podman stops reading an archive at its end mark, and answers 500 ("broken pipe") if the zeros that pad the last record
# have not arrived by then: 6 of 1,200 uploads failed, and none of 6,000 without the padding (buildah issue 6573).
tarfile.RECORDSIZE = tarfile.BLOCKSIZE

functions = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
functions["create"] = limited(functions["create"])


def by_tag(execute):
    """Start the container of an image that is named by its digest.

    ministack passes the name on, but podman's store knows another digest: that of the manifest before the push.
    """

    @functools.wraps(execute)
    def execute_function(func, *arguments, **options):
        uri = func["config"].get("ImageUri", "")
        name, _, digest = uri.partition("@")
        image = ecr._find_image(name.partition("/")[2], {"imageDigest": digest}) if digest else None
        if image is not None:
            func = {**func, "config": {**func["config"], "ImageUri": f"{name}:{image['imageTags'][0]}"}}
        return execute(func, *arguments, **options)

    return execute_function


lambda_svc._execute_function_docker = by_tag(lambda_svc._execute_function_docker)


def with_code_hash(change):
    """Give a function the digest of its image as the hash of its code, as Lambda does.

    ministack leaves it empty, and lambdiff then keeps images that other functions might use.
    """

    @functools.wraps(change)
    def change_function(*arguments):
        name, attributes = change(*arguments)
        config = lambda_svc._functions[name]["config"]
        uri = config.get("ImageUri", "")
        tagged, _, digest = uri.partition("@sha256:")
        repository, _, tag = tagged.partition("/")[2].partition(":")
        image = ecr._find_image(repository, {"imageTag": tag}) if tag else None
        config["CodeSha256"] = digest or (image["imageDigest"].removeprefix("sha256:") if image else "")
        return name, attributes

    return change_function


functions["create"], functions["update"] = with_code_hash(functions["create"]), with_code_hash(functions["update"])


def with_log_group(create):
    """Keep the log group of a CodeBuild project, which ministack's CloudFormation drops."""

    @functools.wraps(create)
    def create_project(logical_id, properties, stack_name):
        name, attributes = create(logical_id, properties, stack_name)
        codebuild._projects[name]["logsConfig"] = provisioners._pascal_to_camel(properties.get("LogsConfig", {}))
        return name, attributes

    return create_project


projects = provisioners._RESOURCE_HANDLERS["AWS::CodeBuild::Project"]
projects["create"] = with_log_group(projects["create"])

# A build of ministack either does nothing, or needs AWS's agent, an image in a registry that tests do not reach.
codebuild._start_build = codebuild_phases.start_build
codebuild._stop_build = codebuild_phases.stop_build

map_runs.install()

if __name__ == "__main__":
    from ministack.app import main

    main()
