"""A Lambda event in, a response out, and one log line that contains no prompt.

Never imports the client, boto3, click or aws_cdk, so a change to the command line does not rebuild the image.
"""
