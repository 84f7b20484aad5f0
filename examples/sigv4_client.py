"""Call a lambdiff endpoint without lambdiff: botocore signs the request, requests sends it.

    pip install botocore requests
    python sigv4_client.py https://abc123.lambda-url.eu-central-1.on.aws/ eu-central-1 cat.png

botocore finds the credentials: environment variables, a profile, SSO.
"""

import json
import sys

import botocore.session
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest

url, region, path = sys.argv[1:]
body = json.dumps({"prompt": "a cat in a top hat", "num_inference_steps": 2})
request = AWSRequest("POST", url, data=body, headers={"Content-Type": "application/json"})
if (credentials := botocore.session.get_session().get_credentials()) is None:
    sys.exit("No AWS credentials to sign with.")
SigV4Auth(credentials, "lambda", region).add_auth(request)
# Wait longer than the function may run (600 s): a request that times out here may still be billed.
response = requests.post(url, data=body, headers=dict(request.headers), timeout=630)
print(response.status_code, response.headers.get("content-type"))
if response.ok:
    with open(path, "wb") as file:
        file.write(response.content)
else:
    print(response.text)  # a problem document (RFC 9457): what was wrong, field by field
