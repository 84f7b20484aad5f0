#!/bin/sh
# The stand-in's entry point, with the one argument that AWS's has: the handler. Inside Lambda the Runtime API is
# there already; elsewhere the Runtime Interface Emulator provides it and takes invocations on port 8080.
[ $# -eq 1 ] || { echo "expected one argument: the handler" >&2; exit 142; }
_HANDLER=$1
export _HANDLER
[ -z "$AWS_LAMBDA_RUNTIME_API" ] && exec /usr/local/bin/aws-lambda-rie /var/runtime/bootstrap "$1"
exec /var/runtime/bootstrap "$1"
