"""What programs speak that cannot sign requests, in front of whatever endpoint `Client` chooses.

Everything goes through `Client`. Imports no engine, and nothing that deploys.
"""
