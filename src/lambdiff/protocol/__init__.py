"""The messages between client and handler, each defined once.

    contract     the request, its defaults and limits, and the health document
    validation   untrusted JSON in, validated fields out
    problems     error replies
    headers      header names, media types, and how header values are encoded
    batch_layout what a batch run in AWS keeps in its bucket
    metadata     the record inside an image; `a1111` is its text, `containers` stores it in PNG, JPEG and WebP
    image_texts  the texts in such a file; `exif` reads its EXIF data
    openapi      the OpenAPI document, generated from all of the above
    http         a request and a reply, independent of the transport

Never imports an engine, a network library, boto3, or any other part of lambdiff except `errors` and the version.
"""
