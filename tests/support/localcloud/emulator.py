"""ministack with four things mended that a deployment of lambdiff meets, and a limit that accounts have.

Runs in an environment of its own.

Each patch says what goes wrong without it. They use private names, hence the pinned version in places.py.
"""

import functools
import json
import os
import re
import tarfile
from pathlib import Path

from ministack.core import iam_actions
from ministack.services import ecr, iam
from ministack.services.cloudformation import provisioners


def create_key(logical_id, properties, stack_name):
    """CloudFormation here does not know AWS::IAM::AccessKey ("Unrecognized resource types")."""
    status, _, body = iam._create_access_key({"UserName": properties["UserName"]})
    text = body.decode() if isinstance(body, bytes) else body
    if status >= 400:
        raise ValueError(f"AWS::IAM::AccessKey: {text}")
    key_id = re.search("<AccessKeyId>([^<]+)", text)[1]
    return key_id, {"SecretAccessKey": iam._access_keys[key_id]["SecretAccessKey"]}


def delete_key(key_id, properties):
    """Forget a key: its next request is answered with 403."""
    iam._access_keys.pop(key_id, None)


def replace_key(key_id, old, new, stack_name):
    """A higher Serial, or another user, replaces a key, as on AWS: a new one is made, then the old one goes."""
    made = create_key(None, new, stack_name)
    delete_key(key_id, old)
    return made


provisioners._RESOURCE_HANDLERS["AWS::IAM::AccessKey"] = {
    "create": create_key,
    "update": replace_key,
    "delete": delete_key,
}


def raising_when_unknown(describe):
    """ECR raises ImageNotFoundException for a tag it does not have; here the list is empty, which the CDK CLI takes
    for "published already", so that a changed image would be neither built nor pushed."""

    @functools.wraps(describe)
    def describe_images(data):
        repository = data.get("repositoryName")
        if repository in ecr._repositories:
            for wanted in data.get("imageIds") or []:
                if not ecr._find_image(repository, wanted):
                    return ecr.error_response_json("ImageNotFoundException", f"There is no image {wanted}", 400)
        return describe(data)

    return describe_images


known = ecr._describe_images
mended = raising_when_unknown(known)
ecr._describe_images = mended
for table in [value for value in vars(ecr).values() if isinstance(value, dict)]:
    for name in [name for name, function in table.items() if function is known]:
        table[name] = mended


def naming_one_repository(read_field):
    """ecr:DescribeRepositories is authorised against every repository, since only "repositoryName" is read of the
    request and not "repositoryNames"; CDK's publishing role may see its own alone and is refused."""

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


def capped(create):
    """Stands in for a new account: a file with a number refuses larger functions, in AWS's words."""
    limit = Path(os.environ["LOCALCLOUD_MEMORY_CAP"])

    @functools.wraps(create)
    def create_function(logical_id, properties, stack_name):
        if limit.exists() and int(properties.get("MemorySize", 128)) > int(limit.read_text()):
            raise ValueError(
                "Resource handler returned message: \"'MemorySize' value failed to satisfy constraint: Member must "
                f'have value less than or equal to {limit.read_text()} (Service: Lambda, Status Code: 400)"'
            )
        return create(logical_id, properties, stack_name)

    return create_function


# podman stops reading an archive at its end mark and answers 500 ("broken pipe") if the zeros that fill the last record
# are still on their way: 6 of 1,200 uploads failed, none of 6,000 without the zeros. buildah's issue 6573.
tarfile.RECORDSIZE = tarfile.BLOCKSIZE

functions = provisioners._RESOURCE_HANDLERS["AWS::Lambda::Function"]
functions["create"] = capped(functions["create"])

if __name__ == "__main__":
    from ministack.app import main

    main()
