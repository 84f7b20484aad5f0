#!/bin/sh
# The entry point of the substitute base image. Like AWS's, it takes one argument: the handler. Inside Lambda, the
# Runtime API already exists; elsewhere, the Runtime Interface Emulator provides it and accepts invocations on port 8080.
[ $# -eq 1 ] || { echo "expected one argument: the handler" >&2; exit 142; }
_HANDLER=$1
export _HANDLER
[ -z "$AWS_LAMBDA_RUNTIME_API" ] && exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap "$1"
exec /var/runtime/bootstrap "$1"
