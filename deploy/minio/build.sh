#!/bin/sh
# Build MinIO from its pinned source with the patches beside this script: build.sh VERSION FOLDER
set -eu
version=$1 folder=$2
here=$(cd "$(dirname "$0")" && pwd)
source=$(mktemp -d)
trap 'rm -rf "$source"' EXIT
module=$(go mod download -json "github.com/minio/minio@$version" | sed -n 's/^[[:space:]]*"Dir": "\(.*\)",\{0,1\}$/\1/p')
cp -R "$module/." "$source"
chmod -R u+w "$source"
cd "$source"
for patch in "$here"/*.patch; do
  # a checkout around the folder would make git skip the patch
  GIT_CEILING_DIRECTORIES=$(dirname "$source") git apply "$patch"
done
CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags="-s -w" -o "$folder/minio" .
