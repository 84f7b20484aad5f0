#!/bin/sh
# What `CDK_DOCKER` names: the docker commands of the CDK CLI, carried out by podman on the local cloud's store.
# To see what a deployment makes of it, FAULT names a command that shall fail, and SLOW one that shall take its time.
for last; do :; done
if [ -n "$FAULT" ] && [ "$FAULT" = "$1" ]; then
  echo "error: injected fault in $1" >&2
  exit 1
fi
if [ -n "$SLOW" ] && [ "$SLOW" = "$1" ]; then sleep 20; fi
case "$1" in
  login) # the emulated registry asks for nothing
    cat >/dev/null && echo "Login Succeeded" ;;
  inspect) # docker's finds images first, podman's containers
    shift && exec podman image inspect "$@" ;;
  push) # to the emulated registry, in the manifest format that ECR's API lists; the ECR name stays in podman's store,
        # where the emulated Lambda looks for it
    exec podman push --cert-dir "$LOCALCLOUD_CERTIFICATES" --format v2s2 "$last" "docker://$LOCALCLOUD_REGISTRY/${last#*/}" ;;
  *)
    exec podman "$@" ;;
esac
