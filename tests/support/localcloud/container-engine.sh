#!/bin/sh
# Runs the docker commands of the CDK CLI with podman, on the local cloud's store; `CDK_DOCKER` names this script.
# Tests set FAULT to a command that has to fail, SLOW to one that has to take 20 seconds, and, for builds in CodeBuild, HOLD
# to one that has to wait until the file of the faults is deleted.
for last; do :; done
if [ -n "$FAULT" ] && [ "$FAULT" = "$1" ]; then
  echo "error: injected fault in $1" >&2
  exit 1
fi
if [ -n "$SLOW" ] && [ "$SLOW" = "$1" ]; then sleep 20; fi
if [ -n "$HOLD" ] && [ "$HOLD" = "$1" ]; then while [ -e "$LOCALCLOUD_BUILD_FAULTS" ]; do sleep 0.2; done; fi
case "$1" in
  login) # the emulated registry needs no login
    cat >/dev/null && echo "Login Succeeded" ;;
  inspect) # docker looks for an image first, podman for a container
    shift && exec podman image inspect "$@" ;;
  push) # to the emulated registry, in the manifest format that ECR's API lists; the image keeps its ECR name in podman's
        # store, where the emulated Lambda looks it up
    exec podman push --cert-dir "$LOCALCLOUD_CERTIFICATES" --format v2s2 "$last" "docker://$LOCALCLOUD_REGISTRY/${last#*/}" ;;
  *)
    exec podman "$@" ;;
esac
