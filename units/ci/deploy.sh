#!/bin/sh
# deploy.sh HOST LABEL FOLDER: deploys a folder to the unit web of a host, and ends as the deploy did.
# What a CI job runs last:   units/ci/deploy.sh deploy@web1.example.org "$GIT_SHA" dist
set -u
[ $# = 3 ] || { echo "usage: $0 HOST LABEL FOLDER" >&2; exit 2; }
host=$1 label=$2 folder=$3

# The same id for the same release: a job that is run again gets the first outcome, and nothing is done
# twice. Sorted names and no times or owners: the same content has the same sum wherever it was built.
tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -C "$folder" -cz . |
    ssh "$host" supctl --request-id "deploy-$label" deploy web "$label" -
status=$?

# 255 is ssh's own: the connection is lost, the deploy may go on. wait joins it, and ends as it does.
if [ "$status" = 255 ]; then
    echo "connection lost; asking what became of it" >&2
    ssh "$host" supctl --timeout 5min wait web
    status=$?
fi
case $status in
    0) echo "$label serves" ;;
    1) echo "$label did not get as far as serving; the one before was not touched" >&2 ;;
    6) echo "$label served, failed, and was rolled back" >&2 ;;
    7) echo "$label failed, and nothing is serving" >&2 ;;
    *) echo "refused or unknown; see above" >&2 ;;
esac
exit "$status"
