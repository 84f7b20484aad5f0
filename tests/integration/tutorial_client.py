"""The client that tutorials show: URL, region and prompt in, cat.png out. Keys come from the environment."""

import json
import os
import sys

import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

url, region, out = sys.argv[1:]
body = json.dumps({"prompt": "a cat in a top hat", "num_inference_steps": 2})
credentials = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
request = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
SigV4Auth(credentials, "lambda", region).add_auth(request)
response = requests.post(url, headers=dict(request.headers), data=body, timeout=600)
print(response.status_code, response.headers.get("content-type"))
if response.ok:
    with open(out, "wb") as file:
        file.write(response.content)
