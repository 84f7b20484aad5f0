"""What travels between client and handler, each thing defined once.

    contract     the request, its defaults and limits, and the health document
    validation   untrusted JSON in, validated fields out
    problems     error replies
    headers      header names, media types, and how header values are encoded
    metadata     the record inside an image; `a1111` is its text, `containers` where PNG, JPEG and WebP keep it
    openapi      the OpenAPI document, made from all of the above
    http         a request and a reply, whatever carries them

Never imports an engine, a network library, boto3, or any part of lambdiff above it but `errors` and the version.
"""
