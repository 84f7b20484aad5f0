#!/bin/sh
# install-packages.sh LOCK [OPTION...]: installs the packages of a lock file into /packages, with further options of pip.
# CI resolves every lock with this script and the Dockerfile's options, for both architectures.
set -eu
lock=$1
shift
machine=$(uname -m)

# Wheels for the glibc of Amazon Linux 2023 (2.34) or older, whichever the base image has. pip takes a platform
# literally: manylinux_2_34 does not include manylinux_2_28, so each is named. Lambda only guarantees AVX2; the wheels
# choose their code paths at run time.
minor=34
while [ "$minor" -ge 17 ]; do
  set -- "$@" --platform "manylinux_2_${minor}_$machine"
  minor=$((minor - 1))
done
set -- "$@" --platform "manylinux2014_$machine"

# OpenVINO's wheel for Arm is tagged for glibc 2.35, but no file in it needs more than 2.34 and GCC 12's libstdc++, which
# Amazon Linux 2023 has since 2023.7. The Dockerfile imports what it has installed.
if [ "$machine" = aarch64 ]; then
  set -- "$@" --platform manylinux_2_35_aarch64
fi

exec python -m pip install --no-cache-dir --no-compile --only-binary :all: --no-deps --require-hashes \
  --target /packages "$@" -r "$lock"
