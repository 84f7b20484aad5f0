"""A Lambda event in, a response out, with a log that holds no prompt.

Never imports the client, boto3, click or aws_cdk: a change to the command line does not rebuild the image.
"""
